"""Stream matrices through a device, and compare every row with golden."""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from tritstream.golden.activation import quantize_activation
from tritstream.golden.fixed_point import ROWS, information_bits, packed_bits, row_tiles
from tritstream.golden.gemv import gemv, results
from tritstream.golden.matrix import DirectMatrix, TritMatrix, dequantize
from tritstream.golden.packed_matrix import PackedMatrix, StoredMatrix
from tritstream.golden.rounding import FORM, Form
from tritstream.golden.row_chunks import in_threads, row_chunks
from tritstream.golden.tiles import unpack
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.layout.stored import AnyMatrix, take_tiles
from tritstream.host.protocol.records import Stats

__all__ = ["Job", "MatrixRun", "Multiplier", "Seconds", "generated_activations", "multiplier",
           "stream_matrix", "unpacked"]

#: Multiplies a prepared matrix by activations: row sums and counts of the device.
Multiplier = Callable[[np.ndarray], Awaitable[tuple[np.ndarray, Stats]]]


@dataclass(frozen=True)
class Job:
    """A matrix to stream, which is read when it is needed.

    Members
    -------
    name : str
    shape : tuple
        Rows N and columns K, without padding.
    depth : int
        Trits per weight.
    matrix : callable
        Reads the packed matrix.
    activations : callable
        Reads float activations (T, K).
    form : Form
        Form in which its weights are computed, for the error.
    size : int
        Bytes of the trits, for the progress.
    measures_error : bool
        Whether to compute the error of the results, which takes longer than the row sums of golden.
    """

    name:        str
    shape:       tuple[int, int]
    depth:       int
    matrix:      Callable[[], StoredMatrix]
    activations: Callable[[], np.ndarray]
    form:        Form = FORM
    size:        int = 0
    measures_error: bool = True


@dataclass(frozen=True)
class Seconds:
    """Wall time per matrix to make its word streams, on the device, and to compare.

    ``device_cpu`` is the CPU time of this process while the device works. For a simulation it
    includes all devices, and the time that threads of numpy's BLAS spin after a comparison.
    """

    prepare:    float
    device:     float
    device_cpu: float
    check:      float


@dataclass(frozen=True)
class MatrixRun:
    """Result of one matrix.

    ``words`` and ``cycles`` are counted by the device, over all vectors and frames. With several
    devices, ``words`` is their sum and ``cycles`` their maximum. ``stream_bytes`` is the size of
    the words. ``words_per_cycle`` is the number of words over words plus stall cycles.
    ``error`` is the relative RMS difference of the device's results from the float64 product of
    the dequantized weights with the unquantized activations, or None if it was not measured.
    ``first_mismatch`` is the first row that differed from golden, if any.
    """

    name: str
    rows: int
    columns: int
    depth: int
    stored_bits: float
    information_bits: float
    vectors: int
    words: int
    stream_bytes: int
    cycles: int
    words_per_cycle: float
    compared: int
    mismatches: int
    error: float | None
    seconds: Seconds
    first_mismatch: dict | None = None

    @classmethod
    def of(cls, record: dict) -> "MatrixRun":
        """Reverse of :func:`dataclasses.asdict`."""
        return cls(**record | {"seconds": Seconds(**record["seconds"])})


async def stream_matrix(device: Device | DeviceGroup, job: Job) -> MatrixRun:
    """Send a matrix with its activations through the device, and compare every row."""
    activations = job.activations()
    x, _ = quantize_activation(activations)
    with _timed() as prepare:
        matrix = job.matrix()
        multiply = await multiplier(device, matrix, job.name)
    with _timed() as streamed:
        sums, stats = await multiply(x)
    with _timed() as check:
        wrong, error = _compare(job, matrix, activations, sums)
    (rows, columns), depth = job.shape, job.depth
    stored, information = _bits(matrix)
    return MatrixRun(
        name=job.name, rows=rows, columns=columns, depth=depth,
        stored_bits=stored, information_bits=information,
        vectors=len(x), words=stats.words, stream_bytes=stats.stream_bytes, cycles=stats.cycles,
        words_per_cycle=stats.words / (stats.words + stats.input_stalls + stats.output_stalls),
        compared=sums.size, mismatches=len(wrong), error=error,
        seconds=Seconds(prepare.wall, streamed.wall, streamed.cpu, check.wall),
        first_mismatch=min(wrong, key=lambda one: (one["vector"], one["row"]), default=None),
    )


async def multiplier(
    device: Device | DeviceGroup, matrix: AnyMatrix, name: str = "",
) -> Multiplier:
    """Prepare a matrix for a device or a group; return a function that multiplies it.

    The function awaits int8 activations (K,) or (B, K), and returns exact row sums and counts.
    """
    if isinstance(device, DeviceGroup):
        return partial(device.gemv, await device.prepare(matrix, name))
    return partial(device.gemv, await device.prepare(matrix, name))


def _compare(
    job: Job, matrix: StoredMatrix, activations: np.ndarray, sums: np.ndarray,
) -> tuple[list[dict], float | None]:
    """Return the rows that differ from golden, and the relative error if the job measures it."""
    x, scales = quantize_activation(activations)
    floats = activations.astype(np.float64)

    def work(chunk: slice) -> tuple[list[dict], float, float]:
        part = unpacked(take_tiles(matrix, slice(chunk.start // ROWS, row_tiles(chunk.stop))),
                         job.form)
        found = sums[:, chunk]
        wrong = list(_differences(found, gemv(part, x), chunk.start))
        if not job.measures_error:
            return wrong, 0.0, 0.0
        exact = floats @ dequantize(part).astype(np.float64).T
        # The unit of a table is that of the complete matrix.
        off = results(found, part.scales.units, job.depth, scales) - exact
        return wrong, float((off * off).sum()), float((exact * exact).sum())

    wrong: list[dict] = []
    off = norm = 0.0
    for some, part_off, part_norm in in_threads(
            work, row_chunks(*job.shape, ROWS)):
        wrong += some
        off, norm = off + part_off, norm + part_norm
    if not job.measures_error:
        return wrong, None
    return wrong, float(np.sqrt(off / norm)) if norm else 0.0


def unpacked(matrix: StoredMatrix, form: Form = FORM) -> TritMatrix | DirectMatrix:
    """Return a stored matrix with its integers."""
    return matrix.unpack() if isinstance(matrix, PackedMatrix) else unpack(
        matrix[0], matrix[2], matrix[3], matrix[1], form)


def _bits(matrix: StoredMatrix) -> tuple[float, float]:
    """Return stored bits and information bits per weight."""
    if isinstance(matrix, PackedMatrix):
        return matrix.stored_bits, matrix.information_bits
    _, _, depth, shape = matrix
    return packed_bits(shape, depth), information_bits(depth)


def _differences(found: np.ndarray, expected: np.ndarray, first: int) -> Iterator[dict]:
    for vector, row in np.argwhere(found != expected).tolist():
        yield {"vector": vector, "row": first + row, "device": int(found[vector, row]),
               "golden": int(expected[vector, row])}


class _Timer:
    wall = cpu = 0.0


@contextmanager
def _timed() -> Iterator[_Timer]:
    """Measure wall and CPU seconds of the context; they are set when it ends."""
    timer, wall, cpu = _Timer(), time.perf_counter(), time.process_time()
    yield timer
    timer.wall, timer.cpu = time.perf_counter() - wall, time.process_time() - cpu


def generated_activations(seed: int, columns: int, vectors: int = 1) -> np.ndarray:
    """Return random activations (T, K) with a few large channels, as in transformers."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((vectors, columns)) * rng.lognormal(0, 0.8, columns)).astype(
        np.float32)
