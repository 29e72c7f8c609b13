"""Random jobs. A job depends only on the seed and its number."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tritstream.golden.activation import quantize_activation
from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.fixed_point import (
    GROUP,
    MAX_DEPTH,
    SCALES,
    row_blocks,
    tile_bytes,
    tiles_shape,
)
from tritstream.golden.model_sizes import QWEN25
from tritstream.golden.quantize import quantize
from tritstream.golden.tiles import pack
from tritstream.host.layout.prepare import Tiles
from tritstream.host.transports.base import FOLD_WORDS
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.assurance.soak.disturbed import ANSWER_FAULTS, REQUEST_FAULTS, Disturbance
from tritstream.scripts.running.stream import generated_activations

__all__ = ["KINDS", "Job", "draw_activations", "draw_disturbances", "draw_job", "draw_matrix"]

#: Share of jobs by the way in which they reach their devices.
KINDS = {"device": 0.55, "group": 0.2, "opened": 0.1, "frames": 0.15}
_MATRICES = ("bytes", "one byte", "few bytes", "quantized", "generated")
_TABLES = ("geometric", "alike", "wide", "one large", "lognormal", "subnormal")
_ACTIVATIONS = ("any", "lowest", "ends", "one", "zeros", "quantized")

#: Largest number of words of a job in all passes on the device with the fewest lanes, and of
#: weights that are quantized.
_MOST_WORDS, _MOST_QUANTIZED = 1 << 19, 1 << 18
#: Matrices with more weights than this are multiplied in one pass with few stalls.
_LARGE = 1 << 19
_SHARES, _FEW_SHARES = (0.0, 0.0, 0.0, 0.1, 0.5, 0.9), (0.0, 0.1)
_QWEN = list(QWEN25["0.5B"].linear().values())


@dataclass(frozen=True)
class Job:
    """A product to compare, or a session of raw frames.

    Members
    -------
    number : int
    kind : str
        One of :data:`KINDS`.
    devices : tuple of int
        Indices of its devices in the list of the soak.
    depth, shape, vectors : int, (int, int), int
    matrix, table, activations : str
        Names of the methods that generate the values.
    frame_bytes : int
        Longest payload of a GEMV frame.
    stalls : (float, float)
        Shares of cycles in which source and sink pause.
    faults : int
        Number of link errors per device.
    fold_words : int or None
        Words that folding must save (:mod:`tritstream.host.layout.folding`), None for no folding.
    """

    number:      int
    kind:        str
    devices:     tuple[int, ...]
    depth:       int
    shape:       tuple[int, int]
    vectors:     int
    matrix:      str
    table:       str
    activations: str
    frame_bytes: int
    stalls:      tuple[float, float]
    faults:      int
    fold_words:  int | None

    def traits(self) -> dict[str, int]:
        """Return the properties of a product that reports count."""
        traits = [f"depth {self.depth}", f"matrix {self.matrix}", f"table {self.table}",
                  f"activations {self.activations}", f"stalled {any(self.stalls)}",
                  f"faults {self.faults}", f"folding {self.fold_words}"]
        if self.shape in _QWEN:
            traits.append("shape of Qwen2.5-0.5B")
        return dict.fromkeys(traits, 1)


def draw_job(seed: int, number: int, configs: Sequence[DeviceConfig]) -> Job:
    """Return job ``number`` of a soak on devices with these configurations."""
    rng = np.random.default_rng([seed, number])
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    count = {"group": int(rng.integers(2, 4)), "opened": int(rng.integers(1, 3))}.get(kind, 1)
    devices = tuple(int(place) for place in rng.integers(len(configs), size=count))
    chosen = [configs[place] for place in devices]
    depth, shape = int(rng.integers(1, MAX_DEPTH + 1)), _shape(rng)
    vectors = _vectors(rng, prod(shape) > _LARGE, chosen)
    shape = _fitting(shape, depth, vectors, chosen)
    shares = _FEW_SHARES if prod(shape) > _LARGE else _SHARES
    matrix = str(rng.choice(_MATRICES, p=[0.4, 0.1, 0.2, 0.2, 0.1]))
    if prod(shape) > _MOST_QUANTIZED:
        matrix = "bytes"
    return Job(
        number, kind, devices, depth, shape, vectors, matrix, str(rng.choice(_TABLES)),
        str(rng.choice(_ACTIVATIONS, p=[0.4, 0.1, 0.2, 0.05, 0.05, 0.2])),
        int(rng.choice([1, 1 << 12, 1 << 16, 1 << 22])),
        (float(rng.choice(shares)), float(rng.choice(shares))),
        int(rng.choice([0, 1, 2, 3], p=[0.4, 0.3, 0.2, 0.1])) if kind in ("device", "group") else 0,
        (FOLD_WORDS, 1, None)[rng.choice(3, p=[0.5, 0.35, 0.15])] if kind == "device"
        else FOLD_WORDS)


def _vectors(rng, large, configs) -> int:
    columns = [config.columns for config in configs]
    return int(rng.integers(1, min(columns) + 1 if large else 2 * max(columns) + 2))


def _shape(rng) -> tuple[int, int]:
    """Return rows and columns: of Qwen2.5-0.5B, few rows with many columns, or random sizes."""
    kind = rng.random()
    if kind < 0.05:
        return _QWEN[rng.integers(len(_QWEN))]
    if kind < 0.1:
        return int(rng.integers(1, 60)), int(rng.integers(4000, 70_000))
    rows, columns = (int(np.exp(rng.uniform(0, np.log(4000)))) for _ in range(2))
    return rows, columns


def _fitting(shape, depth, vectors, configs) -> tuple[int, int]:
    """Return the shape with its rows reduced so that no device takes too many words."""
    rows, columns = shape
    lanes = min(config.lanes for config in configs)
    passes = max(-(-vectors // config.columns) for config in configs)
    block = -(-columns // GROUP) * tile_bytes(depth) * passes
    most = max(1, _MOST_WORDS // block)
    return (rows if row_blocks(rows, lanes) <= most else most * 5 * lanes), columns


def draw_matrix(job: Job, rng: np.random.Generator) -> Tiles:
    """Return tiles, table, depth and shape of the matrix of a job."""
    table = _table(job.table, rng)
    if job.matrix in ("quantized", "generated"):
        found = quantize(_weights(job, rng), job.depth)
        return pack(found), found.table, job.depth, job.shape
    shape = tiles_shape(job.shape, job.depth)
    count = {"bytes": 256, "one byte": 1, "few bytes": 3}[job.matrix]
    values = rng.permutation(256)[:count].astype(np.uint8)
    return values[rng.integers(0, count, shape, np.uint16)], table, job.depth, job.shape


def _weights(job, rng) -> np.ndarray:
    if job.matrix == "generated":
        seed = int(rng.integers(1 << 31))
        return np.concatenate(list(
            GeneratedTensor("soak", "F32", job.shape, seed).chunks())).astype(np.float32)
    sizes = rng.lognormal(0, 1, (job.shape[0], 1))
    return (rng.standard_normal(job.shape) ** rng.choice([1, 5]) * sizes).astype(np.float32)


def _table(kind: str, rng) -> np.ndarray:
    """Return 27 scales, float32."""
    match kind:
        case "geometric":
            values = np.geomspace(1, 300, SCALES)
        case "alike":
            values = np.full(SCALES, rng.lognormal())
        case "wide":
            values = np.geomspace(1e-30, 1e30, SCALES)
        case "one large":
            values = np.r_[np.full(SCALES - 1, 1e-6), 1]
        case "lognormal":
            values = rng.lognormal(0, 2, SCALES)
        case _:
            values = np.geomspace(2e-45, 1e-38, SCALES)
    return rng.permutation(values).astype(np.float32)


def draw_activations(job: Job, rng: np.random.Generator) -> np.ndarray:
    """Return activations, int8 (vectors, K)."""
    shape = job.vectors, job.shape[1]
    match job.activations:
        case "any":
            return rng.integers(-128, 128, shape, np.int8)
        case "lowest":
            return np.full(shape, -128, np.int8)
        case "ends":
            return rng.choice(np.array([-128, 127], np.int8), shape)
        case "one":
            x = np.zeros(shape, np.int8)
            x[:, rng.integers(shape[1])] = rng.choice([-128, -1, 127])
            return x
        case "zeros":
            return np.zeros(shape, np.int8)
        case _:
            return quantize_activation(
                generated_activations(int(rng.integers(1 << 31)), shape[1], shape[0]))[0]


def draw_disturbances(job: Job, requests: int, answers: int, rng) -> list[Disturbance]:
    """Return link errors at random offsets within these numbers of request and response bytes."""
    found = []
    for _ in range(job.faults):
        kind = str(rng.choice(REQUEST_FAULTS + ANSWER_FAULTS))
        size = answers if kind in ANSWER_FAULTS else requests
        found.append(Disturbance(kind, int(rng.integers(size)), int(rng.integers(1, 40))))
    return found
