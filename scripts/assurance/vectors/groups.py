"""Matrices of format version 5: groups of other lengths, direct scales; products and sessions."""

from dataclasses import dataclass
from functools import cache, cached_property

import ml_dtypes
import numpy as np

from tritstream.golden.fixed_point import (
    GROUP,
    MAX_K,
    SCALES,
    group_count,
    half_range,
    piece_columns,
)
from tritstream.golden.gemv import gemv, results
from tritstream.golden.matrix import DirectMatrix, TritMatrix, row_dequantizer
from tritstream.golden.packed.layout import CODED, DIRECT, INVERSE, Layout
from tritstream.golden.packed_matrix import packed_matrix
from tritstream.golden.scales import DirectScales
from tritstream.host.layout.prepare import Part, PreparedMatrix, prepare
from tritstream.host.protocol.operands import activation_rows, mantissa_bytes
from tritstream.hw.protocol import GemvArguments, Opcode
from tritstream.scripts.assurance.vectors.numbers import bits_of, integers
from tritstream.scripts.assurance.vectors.session import Session

__all__ = ["GroupCase", "group_cases", "group_json", "group_words", "groups_session"]

_X_SCALE = 1 / 127
_DTYPES = {"F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16),
           "F32": np.dtype(np.float32)}


@dataclass(frozen=True, eq=False)
class GroupCase:
    """A matrix whose scales are stored apart from its trits, with its purpose and its layout."""

    name:   str
    about:  str
    matrix: TritMatrix | DirectMatrix
    layout: Layout

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """Activations by name: int8 (K,)."""
        columns = self.matrix.columns
        drawn = integers(f"groups/{self.name}/x", 256, columns) - 128
        return {"random": drawn.astype(np.int8), "lowest": np.full(columns, -128, np.int8)}


@cache
def group_cases() -> tuple[GroupCase, ...]:
    """Return the matrices."""
    half = _drawn("direct", 13, 4, "F16")
    half[3], half[5, 1], half[7, 0] = 0, 0, np.float16(2.0 ** -24)
    bfloat = _drawn("bfloat", 7, 3, "BF16")
    ties = np.array([[65535.5, 3, 5, 1], [65535, 1.5, 2.5, 0.5], [1, 2 ** -16, 3 * 2 ** -16, 0]],
                    np.float32)
    return (
        _direct("direct", "float16 per 32 columns: a row of zeros, a dead group, a subnormal", 1,
                (13, 100), 32, half),
        _direct("bfloat", "bfloat16 per 128 columns, K is no multiple of them", 2, (7, 300), 128,
                bfloat),
        _direct("long", "groups longer than a device adds up at d = 3", 3, (6, 320), 160,
                _drawn("long", 6, 2, "F16")),
        _direct("ties", "float32: a mantissa of 2^16, and mantissas half-way", 4, (3, 64), 16,
                ties),
        _direct("row", "one scale per row", 3, (9, 70), 80, _drawn("row", 9, 1, "F32")),
        _direct("single", "one scale that divides, K is more than a device adds up", 1, (6, 1100),
                1104, _drawn("single", 1, 1, "BF16"), inverse=True),
        _coded("coded", "codes per 48 columns", 2, (12, 90), 48),
        _direct("lanes", "a row block and one row at L = 64", 1, (5 * 64 + 1, 32), 16,
                _drawn("lanes", 5 * 64 + 1, 2, "F16")),
    )


def group_json(case: GroupCase, packed: str) -> dict:
    """Return a matrix with its weights, mantissas and products."""
    matrix, layout = case.matrix, case.layout
    scales, every = matrix.scales, slice(None)
    weights = row_dequantizer(matrix)(slice(0, matrix.rows))
    stored: dict[str, object]
    if isinstance(matrix, TritMatrix):
        stored = {"table": bits_of(matrix.table), "codes": matrix.codes.tolist()}
    else:
        stored = {"scales": [bits_of(row) for row in matrix.scales.stored]}
    return {
        "case": case.name, "about": case.about, "packed": packed, "matrix": f"groups.{case.name}",
        "depth": matrix.depth, "shape": list(matrix.shape), "group": layout.group,
        "kind": layout.kind, "dtype": layout.dtype, "q": matrix.q[:, :matrix.columns].tolist(),
        **stored, "weights": [bits_of(row + 0) for row in weights],
        "mantissas": scales.mantissas(every).tolist(),
        "units": bits_of(np.broadcast_to(scales.units, matrix.rows).copy()),
        "device_group": piece_columns(matrix.depth, layout.group, matrix.columns),
        "products": [_product(case, name) for name in case.vectors],
    }


def group_words(case: GroupCase, lanes: int) -> bytes:
    """Return the word stream of a matrix, in device groups of ``device_group`` columns."""
    return _part(case, lanes)[1].stream.tobytes()


def groups_session(lanes: int) -> Session:
    """Return a session with each matrix and each of its vectors, in column 0."""
    session = Session(lanes, "groups of several lengths, codes and direct mantissas", max_k=1104)
    for case in group_cases():
        prepared, part = _part(case, lanes)
        if not prepared.scales.direct:
            session.ask(f"{case.name}: scales", Opcode.SCALES,
                        payload=mantissa_bytes(prepared.mantissas))
        for name, x in case.vectors.items():
            payload = activation_rows(x).tobytes()
            session.ask(f"{case.name}: {name}", Opcode.ACTIVATIONS, 0, len(payload), payload)
            arguments = GemvArguments(prepared.depth, part.groups, 1, part.blocks,
                                      prepared.scales.length, prepared.scales.direct)
            session.ask(f"{case.name}: {name}, all row blocks", Opcode.GEMV, *arguments.pack(),
                        part.stream.tobytes())
    session.status()
    return session


def _part(case: GroupCase, lanes: int) -> tuple[PreparedMatrix, Part]:
    prepared = prepare(packed_matrix(case.matrix), lanes, MAX_K, fold_words=None)
    part, = prepared.parts
    assert isinstance(part, Part)
    return prepared, part


def _product(case: GroupCase, name: str) -> dict:
    x = case.vectors[name]
    sums = gemv(case.matrix, x)
    found = results(sums, case.matrix.scales.units, case.matrix.depth, _X_SCALE)
    return {"vector": name, "x": x.tolist(), "x_scale": bits_of(np.float64(_X_SCALE))[0],
            "sums": sums.tolist(), "results": bits_of(found)}


def _direct(
    name: str, about: str, depth: int, shape: tuple[int, int], group: int, stored: np.ndarray,
    inverse: bool = False,
) -> GroupCase:
    scales = DirectScales(stored, shape[0], inverse)
    matrix = DirectMatrix(depth, shape, _integers(name, depth, shape), scales, group)
    dtype = next(key for key, value in _DTYPES.items() if value == stored.dtype)
    return GroupCase(name, about, matrix, Layout(group, INVERSE if inverse else DIRECT, dtype,
                                                 stored.shape == (1, 1) and shape[0] > 1))


def _coded(name: str, about: str, depth: int, shape: tuple[int, int], group: int) -> GroupCase:
    codes = integers(f"groups/{name}/codes", SCALES, shape[0], group_count(shape[1], group))
    table = np.ldexp(integers(f"groups/{name}/table", 2 ** 24 - 1, SCALES) + 1.0, -24)
    matrix = TritMatrix(depth, shape, _integers(name, depth, shape), codes.astype(np.uint8),
                        table.astype(np.float32), group=group)
    return GroupCase(name, about, matrix, Layout(group, CODED))


def _integers(name: str, depth: int, shape: tuple[int, int]) -> np.ndarray:
    half = half_range(depth)
    q = np.zeros((shape[0], GROUP * group_count(shape[1])), np.int8)
    q[:, :shape[1]] = integers(f"groups/{name}/q", 2 * half + 1, *shape) - half
    return q


def _drawn(name: str, rows: int, groups: int, dtype: str) -> np.ndarray:
    """Return scales 1/32..1 of any dtype: (rows, groups)."""
    values = (integers(f"groups/{name}/scales", 31 * 2 ** 18, rows, groups) + 2 ** 18) / 2 ** 23
    return values.astype(_DTYPES[dtype])
