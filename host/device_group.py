"""Several devices as one: each has some rows of every matrix, and all work in parallel."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np

from tritstream.golden.packed_matrix import StoredMatrix
from tritstream.host.device import Device
from tritstream.host.layout.prepare import PreparedMatrix
from tritstream.host.layout.stored import AnyMatrix, stored_of, take_tiles, tile_count
from tritstream.host.protocol.records import Counters, Info, Stats

__all__ = ["DeviceGroup", "Share", "SplitMatrix", "joined", "spans", "split", "together"]

_T = TypeVar("_T")


@dataclass
class Share:
    """Rows of a matrix that a device multiplies.

    Members
    -------
    device : Device
    span : slice
        Row tiles.
    prepared : PreparedMatrix or None
        Their word streams; None until they are needed.
    """

    device:   Device
    span:     slice
    prepared: PreparedMatrix | None = None


@dataclass
class SplitMatrix:
    """A matrix whose rows are split between devices.

    Members
    -------
    stored : StoredMatrix
        Matrix as packed checkpoints store it.
    name : str
        Name of the matrix in error messages; may be empty.
    shares : list of Share
        Devices and their rows, in the order of the rows.
    """

    stored: StoredMatrix
    name:   str
    shares: list[Share]

    async def prepare(self, share: Share) -> PreparedMatrix:
        """Make the word streams of a share."""
        return await share.device.prepare(take_tiles(self.stored, share.span), self.name)


class DeviceGroup:
    """Devices that share the rows of every matrix, with the methods of one device.

    The row sums equal those of one device. Devices may differ: a device with more lanes gets more
    rows. They work in parallel if their transports let other tasks of asyncio run. When a device
    fails, the work of the others is cancelled, and its error, which contains its name, is raised.

    Parameters
    ----------
    devices : sequence of Device
        Devices of the group, closed with it.
    """

    def __init__(self, devices: Sequence[Device]):
        if not devices:
            raise ValueError("a group needs at least one device")
        self.devices = tuple(devices)

    async def __aenter__(self) -> "DeviceGroup":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all devices."""
        for device in self.devices:
            await device.close()

    async def identify(self) -> Info:
        """Return INFO of the group, asking all devices: sum of the lanes, least of all else."""
        return _as_one(await together(device.identify() for device in self.devices))

    async def info(self) -> Info:
        """Return INFO of the group, asking only devices that were not asked before."""
        return _as_one(await together(device.info() for device in self.devices))

    async def reset(self) -> None:
        """Reset all devices, which lose activations, scales and counters."""
        await together(device.reset() for device in self.devices)

    async def status(self) -> Counters:
        """Return counters of all devices: sum of the frames, greatest of all else."""
        return _all_counters(await together(device.status() for device in self.devices))

    async def prepare(self, matrix: AnyMatrix, name: str = "") -> SplitMatrix:
        """Split the rows of a matrix, and make the word streams of each share."""
        stored = stored_of(matrix)
        shares = [Share(*each)
                  for each in await spans(self.devices, slice(0, tile_count(stored)))]
        split_matrix = SplitMatrix(stored, name, shares)
        for share in shares:
            share.prepared = await split_matrix.prepare(share)
        return split_matrix

    async def parts(self, matrix: AnyMatrix) -> list[tuple[Device, AnyMatrix]]:
        """Return the devices that multiply rows of a matrix, with these rows."""
        stored = stored_of(matrix)
        return [(device, take_tiles(stored, span)) for device, span
                in await spans(self.devices, slice(0, tile_count(stored)))]

    async def gemv(self, matrix: SplitMatrix, x: np.ndarray) -> tuple[np.ndarray, Stats]:
        """Multiply: :meth:`tritstream.host.device.Device.gemv`.

        The cost is the sum over the devices, except that ``cycles`` is the greatest of a device.
        """
        return (await self.gemv_all([matrix], x))[0]

    async def gemv_all(
        self, matrices: Sequence[SplitMatrix], x: np.ndarray,
    ) -> list[tuple[np.ndarray, Stats]]:
        """Multiply several matrices: :meth:`tritstream.host.device.Device.gemv_all`."""
        held = [[share.prepared for matrix in matrices for share in matrix.shares
                 if share.device is device and share.prepared] for device in self.devices]
        answers = await together(device.gemv_all(shares, x)
                                  for device, shares in zip(self.devices, held, strict=True))
        left = {device: iter(found) for device, found in zip(self.devices, answers, strict=True)}
        return [joined([next(left[share.device]) for share in matrix.shares])
                for matrix in matrices]


def joined(answers: Sequence[tuple[np.ndarray, Stats]]) -> tuple[np.ndarray, Stats]:
    """Return row sums and cost of a matrix from those of its shares."""
    sums, stats = zip(*answers, strict=True)
    cycles = max(each.cycles for each in stats)
    return np.concatenate(sums, axis=-1), replace(sum(stats, Stats()), cycles=cycles)


async def spans(
    devices: Sequence[Device], tiles: slice,
) -> list[tuple[Device, slice]]:
    """Split row tiles between devices, and return those that get any, in the order of the rows."""
    infos = await together(device.info() for device in devices)
    # Only the last span may have a partly filled row block: it goes to the narrowest device.
    ranked = sorted(zip(infos, devices, strict=True), key=lambda pair: -pair[0].lanes)
    count, first = tiles.stop - tiles.start, tiles.start
    found = split(count, [info.lanes for info, _ in ranked])
    return [(device, slice(first + span.start, first + span.stop))
            for (_, device), span in zip(ranked, found, strict=True) if span.stop > span.start]


def split(tiles: int, lanes: Sequence[int]) -> list[slice]:
    """Split row tiles between devices with these lanes, into as few row blocks as possible."""
    blocks = -(-tiles // sum(lanes))
    ends = accumulate((blocks * count for count in lanes), initial=0)
    return [slice(*pair) for pair in pairwise(min(end, tiles) for end in ends)]


async def together(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run coroutines in parallel; return their results or raise the error of the first failure."""
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
