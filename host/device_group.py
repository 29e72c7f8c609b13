"""Several devices as one: each has some rows of every matrix, and all work at a time."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np

from tritstream.golden.fixed_point import ROWS
from tritstream.golden.matrix import TritMatrix
from tritstream.host.device import Device
from tritstream.host.layout.prepare import PreparedMatrix, Tiles, tiles_of
from tritstream.host.protocol.records import Counters, Info, Stats

__all__ = ["DeviceGroup", "SplitMatrix", "split"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class SplitMatrix:
    """A matrix whose rows are shared out.

    Members
    -------
    shares : tuple of (Device, PreparedMatrix)
        Which device has which rows, from the first row to the last.
    """

    shares: tuple[tuple[Device, PreparedMatrix], ...]


class DeviceGroup:
    """Devices that share the rows of every matrix, with the methods of one device.

    The integers are those of one device. Devices may differ: one with more lanes gets more rows.
    They work at a time as far as their transports let other tasks of asyncio run. When one fails,
    what the others do is cancelled, and its error raised, which tells its name.

    Parameters
    ----------
    devices : sequence of Device
        Closed with the group.
    """

    def __init__(self, devices: Sequence[Device]):
        if not devices:
            raise ValueError("a group needs at least one device")
        self.devices = tuple(devices)

    async def __aenter__(self) -> "DeviceGroup":
        return self

    async def __aexit__(self, *_) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all devices."""
        for device in self.devices:
            await device.close()

    async def identify(self) -> Info:
        """What the devices are as one: all their lanes, and of all else the least."""
        return _as_one(await _together(device.identify() for device in self.devices))

    async def info(self) -> Info:
        """The same; asks only those of which it is not known yet."""
        return _as_one(await _together(device.info() for device in self.devices))

    async def reset(self) -> None:
        """Make all devices forget activations, scales and counters."""
        await _together(device.reset() for device in self.devices)

    async def status(self) -> Counters:
        """Counters of all devices: frames added up, the greatest of all else."""
        return _all_counters(await _together(device.status() for device in self.devices))

    async def prepare(self, matrix: TritMatrix | Tiles, name: str = "") -> SplitMatrix:
        """Share out the rows of a matrix, and make the word streams of each share."""
        tiles, table, depth, (rows, columns) = tiles_of(matrix)
        infos = await _together(device.info() for device in self.devices)
        # Only the last share may fall short of whole row blocks: it is the narrowest device's.
        ranked = sorted(zip(infos, self.devices, strict=True), key=lambda pair: -pair[0].lanes)
        shares = []
        for (_, device), some in zip(ranked, split(len(tiles), [info.lanes for info, _ in ranked]),
                                     strict=True):
            if some.stop > some.start:
                count = min(ROWS * some.stop, rows) - ROWS * some.start
                part = tiles[some], table, depth, (count, columns)
                shares.append((device, await device.prepare(part, name)))
        return SplitMatrix(tuple(shares))

    async def gemv(self, matrix: SplitMatrix, x: np.ndarray) -> tuple[np.ndarray, Stats]:
        """Multiply: :meth:`tritstream.host.device.Device.gemv`.

        What it cost is the sum over the devices, but of cycles the most that a device took.
        """
        answers = await _together(device.gemv(share, x) for device, share in matrix.shares)
        sums, stats = zip(*answers, strict=True)
        cycles = max(each.cycles for each in stats)
        return np.concatenate(sums, axis=-1), replace(sum(stats, Stats()), cycles=cycles)


def split(tiles: int, lanes: Sequence[int]) -> list[slice]:
    """Row tiles for devices of these lanes, so that none has more row blocks than need be."""
    blocks = -(-tiles // sum(lanes))
    ends = accumulate((blocks * count for count in lanes), initial=0)
    return [slice(*pair) for pair in pairwise(min(end, tiles) for end in ends)]


async def _together(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Results of coroutines that run at a time, or the error of the first that fails."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _as_one(infos: Sequence[Info]) -> Info:
    def least(name: str) -> int:
        return min(getattr(info, name) for info in infos)
    return Info(least("version"), sum(info.lanes for info in infos), least("columns"),
                least("max_k"), least("clock_hz"), least("build_id"))


def _all_counters(counters: Sequence[Counters]) -> Counters:
    return Counters(sum(each.frames_good for each in counters),
                    sum(each.frames_bad for each in counters),
                    max(each.last_error for each in counters),
                    max(each.cycles for each in counters))
