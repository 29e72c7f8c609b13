"""Several devices as one: each has a part of every matrix, and all work in parallel."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from tritstream.golden.fixed_point import ROWS
from tritstream.golden.packed_matrix import StoredMatrix
from tritstream.host.device import Device
from tritstream.host.layout.prepare import PreparedMatrix
from tritstream.host.layout.stored import AnyMatrix, stored_of
from tritstream.host.placement.cutting import CUT_WORDS, Region, Unit, cut
from tritstream.host.placement.plan import PlacementError, Plan, place
from tritstream.host.placement.work import Span, Step, Work
from tritstream.host.protocol.records import Counters, Info, Stats

__all__ = ["DeviceGroup", "DeviceShare", "SplitMatrix", "joined", "together"]

_T = TypeVar("_T")


@dataclass
class DeviceShare:
    """Part of a matrix that a device multiplies.

    Members
    -------
    device : Device
    span : Span
        Row tiles and columns.
    prepared : PreparedMatrix or None
        Their word streams; None until they are needed.
    """

    device:   Device
    span:     Span
    prepared: PreparedMatrix | None = None


@dataclass
class SplitMatrix:
    """A matrix that is split between devices.

    Members
    -------
    stored : StoredMatrix
        Matrix as packed checkpoints store it.
    work : Work
        Its name, which may be empty, and its form.
    shares : list of DeviceShare
        Devices and their parts, in the order of the rows.
    """

    stored: StoredMatrix
    work:   Work
    shares: list[DeviceShare]

    async def prepare(self, share: DeviceShare) -> PreparedMatrix:
        """Make the word streams of a share."""
        span = None if share.span == self.work.span else share.span
        return await share.device.prepare(self.stored, self.work.name, span)


class DeviceGroup:
    """Devices that share every matrix, with the methods of one device.

    The row sums equal those of one device. Rows are split, or columns where rows are few
    (:mod:`tritstream.host.placement.cutting`). Devices may differ: one with more lanes or a faster
    clock gets more. They work in parallel if their transports let other tasks of asyncio run. When
    a device fails, the work of the others is cancelled, and its error, which contains its name, is
    raised.

    Parameters
    ----------
    devices : sequence of Device
        Devices of the group, closed with it.
    cut_words : int
        Words that a part of a row block must have: :func:`.cut`.
    layers : bool
        Whether :meth:`place` gives each device complete layers: :func:`.place`.

    Members
    -------
    layers : bool
        As given.
    plan : Plan or None
        Places of the matrices of a model, set by :meth:`place`.
    """

    def __init__(self, devices: Sequence[Device], cut_words: int = CUT_WORDS,
                 layers: bool = False):
        if not devices:
            raise ValueError("a group needs at least one device")
        self.devices, self.layers = tuple(devices), layers
        self.plan: Plan | None = None
        self._cut_words = cut_words
        #: Devices of the units of the plan.
        self._planned: tuple[Device, ...] = ()

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

    async def place(self, steps: Sequence[Step], must_fit: bool = False) -> Plan:
        """Place the matrices of a model, which :meth:`prepare` then splits by this plan.

        The memory of boards limits their parts. If the matrices do not fit, the plan has no limits,
        and words that a board does not store are sent for each product.

        Parameters
        ----------
        steps : sequence of Step
        must_fit : bool
            Whether matrices that do not fit are an error.

        Raises :class:`.PlacementError` for matrices that must fit and do not.
        """
        units = await self.units()
        try:
            plan = place(steps, units, self.layers, self._cut_words)
        except PlacementError:
            if must_fit:
                raise
            plan = place(steps, [replace(unit, memory=None) for unit in units], self.layers,
                         self._cut_words)
        self.plan, self._planned = plan, self.devices
        return plan

    async def prepare(self, matrix: AnyMatrix, name: str = "") -> SplitMatrix:
        """Split a matrix, and make the word streams of each share.

        A matrix that has no place in the plan of the group is split between all devices.
        """
        stored = stored_of(matrix)
        work = Work.of_stored(stored, name)
        shares = self._places(work) or await self._split(work, work.span, self.devices)
        split_matrix = SplitMatrix(stored, work, shares)
        for share in shares:
            share.prepared = await split_matrix.prepare(share)
        return split_matrix

    async def units(self) -> list[Unit]:
        """Return the devices as units of a placement, with the memory of boards."""
        return await self._units(self.devices)

    def _places(self, work: Work) -> list[DeviceShare]:
        """Return the parts of a matrix by the plan; none if the plan has no such matrix."""
        shares = self.plan.shares.get(work.name, ()) if self.plan else ()
        return [DeviceShare(self._planned[share.unit], share.span)
                for share in shares if share.work == work]

    async def _split(
        self, work: Work, span: Span, devices: Sequence[Device],
    ) -> list[DeviceShare]:
        """Split a matrix, or a part of it, between devices without a limit of memory."""
        units = await self._units(devices)
        shares = cut([Region(work, span)], units, [None] * len(units), self._cut_words) or []
        return [DeviceShare(devices[share.unit], share.span) for share in shares]

    async def _units(self, devices: Sequence[Device]) -> list[Unit]:
        """Return the devices as units of a placement: a card each."""
        infos = await together(device.info() for device in devices)
        clocks = [info.clock_hz for info in infos]
        return [Unit(device.name, info.lanes, info.max_k, info.clock_hz if all(clocks) else 1.0,
                     device.store.capacity if device.store else None, card)
                for card, (device, info) in enumerate(zip(devices, infos, strict=True))]

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
        return joined(matrices, [[next(left[share.device]) for share in matrix.shares]
                                 for matrix in matrices])


def joined(
    matrices: Sequence[SplitMatrix], answers: Sequence[Sequence[tuple[np.ndarray, Stats]]],
) -> list[tuple[np.ndarray, Stats]]:
    """Return row sums and cost of matrices from those of their shares.

    Shares of the same rows have other columns, and their integer sums are added. The cycles are
    those of the device that takes most for all the matrices, because the devices work in parallel.
    """
    cycles: Counter[Device] = Counter()
    for matrix, found in zip(matrices, answers, strict=True):
        for share, (_, stats) in zip(matrix.shares, found, strict=True):
            cycles[share.device] += stats.cycles
    longest = max(cycles, key=cycles.__getitem__, default=None)
    return [_joined(matrix, found, longest)
            for matrix, found in zip(matrices, answers, strict=True)]


def _joined(
    matrix: SplitMatrix, answers: Sequence[tuple[np.ndarray, Stats]], longest: Device | None,
) -> tuple[np.ndarray, Stats]:
    sums = np.zeros((*answers[0][0].shape[:-1], matrix.work.shape[0]), np.int64)
    total, cycles = Stats(), 0
    for share, (found, stats) in zip(matrix.shares, answers, strict=True):
        first = ROWS * share.span.tiles.start
        sums[..., first:first + found.shape[-1]] += found
        total += stats
        cycles += stats.cycles if share.device is longest else 0
    return sums, replace(total, cycles=cycles)


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
