"""Command that measures the codec: quantize, pack, unpack, import, next to plain numpy."""

import math
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.fixed_point import GROUP, ROWS, SCALE_TRITS, half_range
from tritstream.golden.gemv import gemv
from tritstream.golden.kernels import default_engine
from tritstream.golden.matrix import TritMatrix, dequantize
from tritstream.golden.quantize import quantize
from tritstream.golden.recover import encode, recover
from tritstream.golden.rounding import FORM
from tritstream.golden.tiles import pack, unpack, word_stream
from tritstream.golden.trit import decode, to_digit, to_trit
from tritstream.golden.trit import encode as encode_bytes
from tritstream.scripts.console import Failure, reports_errors, table
from tritstream.scripts.options import Depth, Json, JsonFile, Repeat
from tritstream.scripts.reports.bench.measuring import circumstances, report_to

__all__ = ["codec", "measure_codec"]

_PACKAGES = ("tritstream", "numpy", "numba")
#: Qwen2.5-0.5B's gate_proj.
_SHAPE = (4864, 896)
_LANES = 8


@reports_errors
def codec(
    depth: Depth = 3,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the matrix.")] = _SHAPE[0],
    columns: Annotated[int, typer.Option(min=1, help="Columns of the matrix.")] = _SHAPE[1],
    repeat: Repeat = 3,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Measure the rates of the codec on one matrix, next to straightforward numpy code."""
    report = measure_codec((rows, columns), depth, repeat)
    report_to(report, output, as_json, show_codec)


def measure_codec(shape: tuple[int, int] = _SHAPE, depth: int = 3, repeat: int = 3) -> dict:
    """Return millions of weights per second of wall time and of CPU time, by step.

    Raises :class:`Failure` if the plain code gives another result.
    """
    half_range(depth)
    weights = GeneratedTensor("bench.weight", "F32", shape, seed=0).read()
    rows = [_rates(name, work, math.prod(shape), repeat)
            for name, work in _steps(weights, depth).items()]
    return circumstances(_PACKAGES) | {"shape": list(shape), "depth": depth, "steps": rows}


def _steps(weights: np.ndarray, depth: int) -> dict[str, Callable[[], object]]:
    engine = default_engine()
    matrix = quantize(weights, depth, engine=engine)
    tiles, stored = pack(matrix), dequantize(matrix).astype(np.float16)
    x = np.random.default_rng(0).integers(-128, 128, weights.shape[1:], dtype=np.int8)
    if not (np.array_equal(_plain_pack(matrix), tiles)
            and np.array_equal(_plain_unpack(tiles, depth, matrix.shape), matrix.q)):
        raise Failure("plain numpy packs or unpacks the matrix to something else")
    found = recover(stored)
    table = np.array(found.table, np.float32)

    def unpack_tiles() -> TritMatrix:
        return unpack(tiles, depth, matrix.shape, matrix.table)

    return {
        "quantize, numpy": lambda: quantize(weights, depth, engine="numpy"),
        f"quantize, {engine}": lambda: quantize(weights, depth, engine=engine),
        "pack, plain": lambda: _plain_pack(matrix),
        "pack, numpy": lambda: pack(matrix),
        f"pack, {engine}": lambda: pack(matrix, engine),
        "unpack, plain": lambda: _plain_unpack(tiles, depth, matrix.shape),
        "unpack": unpack_tiles,
        "words for L = 8": lambda: word_stream(tiles, _LANES),
        "import: find the table": lambda: recover(stored),
        "import: encode": lambda: encode(stored, table, found.depth, FORM),
        "GEMV in int64": lambda: gemv(matrix, x),
    }


def _plain_pack(matrix: TritMatrix) -> np.ndarray:
    """Tiles straight from their definition: digits of five rows, byte by byte."""
    value  = matrix.q.astype(np.int64) + half_range(matrix.depth)
    trits  = value[..., None] // 3 ** np.arange(matrix.depth) % 3 - 1
    digits = to_digit(trits).reshape(matrix.rows, matrix.groups, -1)
    codes  = matrix.codes[..., None] // 3 ** np.arange(SCALE_TRITS) % 3
    rows   = np.pad(np.concatenate([digits, codes], axis=-1),
                    ((0, -matrix.rows % ROWS), (0, 0), (0, 0)))
    return encode_bytes(np.moveaxis(rows.reshape(-1, ROWS, *rows.shape[1:]), 1, -1))


def _plain_unpack(tiles: np.ndarray, depth: int, shape: tuple[int, int]) -> np.ndarray:
    """Integers straight from their definition: trits of each byte times powers of three."""
    trits = to_trit(decode(tiles[..., :GROUP * depth]))
    trits = trits.reshape(*tiles.shape[:2], GROUP, depth, ROWS).astype(np.int64)
    q = np.tensordot(trits, 3 ** np.arange(depth), (3, 0))
    return np.moveaxis(q, -1, 1).reshape(ROWS * len(tiles), -1)[:shape[0]]


def _rates(name: str, work: Callable[[], object], weights: int, repeat: int) -> dict:
    """Measure the fastest of several runs, after one that is not counted."""
    work()
    walls, cpus = [], []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"step": name, "million_weights_per_second": weights / min(walls) / 1e6,
            "million_weights_per_cpu_second": weights / min(cpus) / 1e6}


def show_codec(report: dict) -> None:
    """Print a report of :func:`measure_codec`."""
    table(f"codec, {report['shape'][0]}x{report['shape'][1]}, d = {report['depth']}",
          ["step", "M weights/s", "M weights/CPU s"],
          [[row["step"], f"{row['million_weights_per_second']:.1f}",
            f"{row['million_weights_per_cpu_second']:.1f}"] for row in report["steps"]])
