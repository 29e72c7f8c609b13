"""Test a device over any transport: refusals, products of every depth, random products."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, MAX_DEPTH, ROWS, SCALES, tile_bytes, tiles_shape
from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError
from tritstream.host.protocol.records import Info, Stats
from tritstream.hw.protocol import ErrorCode, Opcode
from tritstream.scripts.console import Failure

__all__ = ["Soak", "selftest"]


@dataclass(frozen=True)
class Soak:
    """Amount of random products.

    Parameters
    ----------
    seconds : float
        Duration in seconds.
    jobs : int, optional
        Number of products; replaces ``seconds``.
    size : int
        Size of the largest packed matrix in bytes.
    seed : int
        Random seed.
    """

    seconds: float = 60.0
    jobs: int | None = None
    size: int = 1 << 18
    seed: int = 0

    def __post_init__(self):
        for name, value in (("seconds", self.seconds), ("jobs", self.jobs), ("size", self.size)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value!r}")


async def selftest(device: Device, soak: Soak, advance: Callable) -> dict:
    """Test a device, and return the report as plain values.

    ``advance(seconds or jobs, label)`` is called after each random product.

    Raises :class:`Failure` if a product differs from golden or an invalid request is not refused,
    and the driver's errors.
    """
    info = await device.identify()
    await device.reset()
    refusals = await _check_refusals(device.exchange, info)
    rng = np.random.default_rng(soak.seed)
    known = Stats()
    for what, depth, shape in _known_products(info):
        known += await _product(device, what, depth, shape, info.columns,
                                np.random.default_rng(depth))
    soaked = await _soak(device, info, soak, rng, advance)
    return {
        "device": asdict(info), "refusals": refusals, "known": len(_known_products(info)),
        "soak": soaked, "retries": known.retries + soaked["retries"],
        "counters": asdict(await device.status()),
    }


def _refusals(info: Info) -> tuple:
    """Requests to refuse after a reset: name, error code, opcode, arg0, payload bytes."""
    group = 1 << 8 | 1 << 24
    return (
        ("an unknown opcode",     ErrorCode.OPCODE,     0x7F,               0,            0),
        ("STATUS with a payload", ErrorCode.LENGTH,     Opcode.STATUS,      0,            64),
        ("GEMV of depth 5",       ErrorCode.DEPTH,      Opcode.GEMV,        5 | group,    64),
        ("a column too many",     ErrorCode.SIZE,       Opcode.ACTIVATIONS, info.columns, GROUP),
        ("GEMV before any load",  ErrorCode.NOT_LOADED, Opcode.GEMV,        1 | group,
         tile_bytes(1) * info.lanes),
    )


async def _check_refusals(link, info) -> int:
    """Number of invalid requests, which were all refused."""
    for what, code, opcode, arg0, length in _refusals(info):
        arg1 = length if opcode == Opcode.ACTIVATIONS else 1
        await link.ask(opcode, arg0, arg1, bytes(length))
        try:
            response = f"answer 0x{(await link.answer(*Opcode)).header.opcode:02x}"
        except DeviceError as error:
            if error.code == code:
                continue
            response = str(error)
        raise Failure(f"{what} must be refused with error {code} {code.name}; came: {response}")
    return len(_refusals(info))


def _known_products(info: Info) -> list:
    """Name, depth, shape. Results of the last product take longer to send than its weights."""
    block = ROWS * info.lanes
    return [*((f"depth {depth}", depth, (2 * block - 1, 40)) for depth in range(1, MAX_DEPTH + 1)),
            ("narrow rows", 1, (20 * block, GROUP))]


async def _soak(device, info, soak, rng, advance) -> dict:
    stats, jobs, products = Stats(), 0, 0
    began = before = time.monotonic()
    while not _over(soak, jobs, before - began):
        depth, shape, vectors = _random_job(rng, info, soak.size)
        what = f"job {jobs}, depth {depth}, {shape[0]} x {shape[1]}"
        stats += await _product(device, what, depth, shape, vectors, rng)
        jobs, products = jobs + 1, products + vectors * shape[0]
        now = time.monotonic()
        advance(1 if soak.jobs else now - before, what)
        before = now
    seconds = before - began
    return {"jobs": jobs, "rows_compared": products, "seconds": round(seconds, 3),
            "bytes_per_second": round(stats.words * info.lanes / max(seconds, 1e-9)),
            **asdict(stats)}


def _over(soak, jobs, seconds):
    return jobs >= soak.jobs if soak.jobs is not None else seconds >= soak.seconds


def _random_job(rng, info: Info, size: int) -> tuple[int, tuple[int, int], int]:
    """Depth, shape and number of vectors; sizes are uniform in their logarithm."""
    depth = int(rng.integers(1, MAX_DEPTH + 1))
    group = info.lanes * tile_bytes(depth)
    groups = _log_uniform(rng, min(info.max_k // GROUP, size // group))
    blocks = _log_uniform(rng, size // (group * groups))
    rows = ROWS * info.lanes * blocks - int(rng.integers(ROWS * info.lanes))
    columns = GROUP * groups - int(rng.integers(GROUP))
    return depth, (rows, columns), int(rng.integers(1, info.columns + 1))


def _log_uniform(rng, most: int) -> int:
    """Random integer in 1..``most``, uniform in its logarithm; 1 if ``most`` is less."""
    return int(np.exp(rng.uniform(0, np.log(max(1, most) + 1))))


async def _product(device, what, depth, shape, vectors, rng) -> Stats:
    """Compare a product of random bytes with golden."""
    tiles = rng.integers(0, 256, tiles_shape(shape, depth), np.uint8)
    table = rng.permutation(np.geomspace(1, 300, SCALES)).astype(np.float32)
    x = rng.integers(-128, 128, (vectors, shape[1]), np.int8)
    sums, stats = await device.gemv(await device.prepare((tiles, table, depth, shape)), x)
    expected = gemv(unpack(tiles, depth, shape, table), x)
    wrong = np.argwhere(sums != expected)
    if len(wrong):
        vector, row = (int(i) for i in wrong[0])
        raise Failure(f"{what}: row {row} of vector {vector} is {sums[vector, row]} on the device "
                      f"and {expected[vector, row]} in golden ({len(wrong)} of {sums.size} differ)")
    return stats
