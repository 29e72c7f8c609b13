"""Streaming matrices through a device and comparing every row with golden."""

import time
from dataclasses import asdict, dataclass, field

import numpy as np

from golden.activation import quantize_activation
from golden.fixed import information_bits
from golden.gemv import dequantize_rows, gemv
from golden.quantize import TritMatrix, dequantize
from golden.tiles import packed_bits
from host.device import Device
from host.native_transport import NativeTransport
from host.records import Info
from hw.config import DeviceConfig
from scripts.console import Failure
from sim.build import build_native, device_rtl
from sim.native import NativeDevice

__all__ = [
    "MatrixRun", "Simulation", "generated_activations", "mismatch", "stream_matrix",
    "totals",
]


@dataclass(frozen=True)
class MatrixRun:
    """What became of one matrix.

    ``words`` and ``cycles`` are the device's own counts, over all vectors and frames;
    ``words_per_cycle`` is the share of cycles with a word among those in which words were due.
    ``error`` is the relative RMS difference of the device's results from the float64 product of
    the dequantized weights with the unquantized activations.
    """

    name: str
    rows: int
    columns: int
    depth: int
    stored_bits: float
    information_bits: float
    vectors: int
    words: int
    cycles: int
    words_per_cycle: float
    compared: int
    mismatches: int
    error: float
    first_mismatch: dict | None = field(default=None)


class Simulation:
    """The simulated accelerator: the compiled RTL behind the driver.

    Parameters
    ----------
    config : DeviceConfig
    rtl : str, optional
        Verilog to run in place of the one generated for ``config``.
    """

    def __init__(self, config: DeviceConfig, rtl: str | None = None):
        self.config = config
        self.build  = build_native(config.lanes, rtl or device_rtl(config))
        self.native = NativeDevice(self.build.library)
        self.device = Device(NativeTransport(self.native))
        self._began = time.process_time()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.native.close()

    async def identify(self) -> Info:
        """Ask the device what it is."""
        return await self.device.identify()

    def report(self, info: Info) -> dict:
        """What ran: engine, RTL, device, and how fast it was simulated."""
        seconds = time.process_time() - self._began
        return {
            "engine": self.build.engine,
            "rtl_sha256": self.build.rtl_sha256,
            "device": asdict(info),
            "simulated_cycles": self.native.cycles,
            "cpu_seconds": round(seconds, 2),
        }


async def stream_matrix(device: Device, name: str, matrix: TritMatrix,
                        activations: np.ndarray) -> MatrixRun:
    """Send a matrix with float activations (T, K) through the device and compare every row."""
    x, scales = quantize_activation(activations)
    sums, stats = await device.gemv(await device.prepare(matrix), x)
    expected = gemv(matrix, x)
    wrong = np.argwhere(sums != expected)
    results = dequantize_rows(sums, matrix.table, matrix.depth, scales)
    return MatrixRun(
        name=name, rows=matrix.rows, columns=matrix.columns, depth=matrix.depth,
        stored_bits=packed_bits(matrix.shape, matrix.depth),
        information_bits=information_bits(matrix.depth),
        vectors=len(x), words=stats.words, cycles=stats.cycles,
        words_per_cycle=stats.words / (stats.words + stats.input_stalls + stats.output_stalls),
        compared=sums.size, mismatches=len(wrong),
        error=_relative_error(results, matrix, activations),
        first_mismatch=_first(wrong, sums, expected),
    )


def _relative_error(results, matrix, activations):
    exact = activations.astype(np.float64) @ dequantize(matrix).astype(np.float64).T
    norm = np.linalg.norm(exact)
    return float(np.linalg.norm(results - exact) / norm) if norm else 0.0


def _first(wrong, sums, expected):
    if not len(wrong):
        return None
    vector, row = (int(i) for i in wrong[0])
    return {"vector": vector, "row": row, "device": int(sums[vector, row]),
            "golden": int(expected[vector, row])}


def totals(runs: list[MatrixRun]) -> dict:
    """Sums over the matrices; bits are averages over weights."""
    weights = sum(run.rows * run.columns for run in runs)
    def mean(name):
        return sum(getattr(run, name) * run.rows * run.columns for run in runs) / weights
    words = sum(run.words for run in runs)
    return {
        "matrices": len(runs), "weights": weights,
        "stored_bits": mean("stored_bits"), "information_bits": mean("information_bits"),
        "words": words, "cycles": sum(run.cycles for run in runs),
        "words_per_cycle": words / sum(run.words / run.words_per_cycle for run in runs),
        "compared": sum(run.compared for run in runs),
        "mismatches": sum(run.mismatches for run in runs),
    }


def mismatch(runs: list[MatrixRun]) -> Failure | None:
    """The failure to raise when a row differed: the first, with both numbers."""
    for run in runs:
        if first := run.first_mismatch:
            count = sum(run.mismatches for run in runs)
            return Failure(
                f"{run.name}: row {first['row']} of vector {first['vector']} is "
                f"{first['device']} on the device and {first['golden']} in golden "
                f"({count} rows differ): the RTL that ran is not the machine golden describes")
    return None


def generated_activations(seed: int, columns: int, vectors: int = 1) -> np.ndarray:
    """Activations (T, K) with a few large channels, as transformers have."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((vectors, columns)) * rng.lognormal(0, 0.8, columns)).astype(
        np.float32)
