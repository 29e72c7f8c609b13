"""Devices that share every matrix, and go on when some of them fail."""

import asyncio
import warnings
from collections.abc import Sequence

import numpy as np

from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup, DeviceShare, SplitMatrix, joined
from tritstream.host.errors import DeviceError, HostError
from tritstream.host.placement.cutting import CUT_WORDS
from tritstream.host.placement.work import Span
from tritstream.host.protocol.records import Stats

__all__ = ["FailoverGroup", "FailoverWarning"]

#: Row sums and cost of a share, by index of the matrix and its part.
_Found = dict[tuple[int, Span], tuple[np.ndarray, Stats]]


class FailoverWarning(UserWarning):
    """A device failed, and other devices multiply its parts from now on."""


class FailoverGroup(DeviceGroup):
    """A group in which the parts of a device that fails go to a spare, or to the other devices.

    A device fails when one of its methods raises a :class:`.HostError`: it is gone, it was silent
    in every attempt, or it returned damage. It is closed and not used again. A product depends on
    nothing but weights and activations, so its parts are multiplied again elsewhere, with the same
    results. Their word streams are made when a matrix is used for the first time after a failure.
    Each failure causes a :class:`FailoverWarning`.

    Parameters
    ----------
    devices : sequence of Device
        Devices of the group, closed with it.
    spares : sequence of Device
        Devices that are used when others fail, in this order; closed with the group.
    cut_words, layers
        As for a :class:`.DeviceGroup`.

    Members
    -------
    spares : list of Device
        Spares that are left. Further ones may be appended.

    Methods raise :class:`.DeviceError`, with the failures, when no device is left. Before the first
    product, the failure of a device is an error.
    """

    def __init__(
        self, devices: Sequence[Device], spares: Sequence[Device] = (), cut_words: int = CUT_WORDS,
        layers: bool = False,
    ):
        super().__init__(devices, cut_words, layers)
        self.spares = list(spares)
        #: By device that failed: devices to which its parts go.
        self._successors: dict[Device, list[Device]] = {}
        self._failures: list[str] = []

    async def close(self) -> None:
        """Close all devices and spares."""
        await super().close()
        for device in self.spares:
            await device.close()

    async def gemv_all(
        self, matrices: Sequence[SplitMatrix], x: np.ndarray,
    ) -> list[tuple[np.ndarray, Stats]]:
        """Multiply several matrices: :meth:`tritstream.host.device.Device.gemv_all`."""
        found: _Found = {}
        while True:
            self._require()
            for matrix in matrices:
                await self._move(matrix)
            left = {device: [(place, share) for place, matrix in enumerate(matrices)
                             for share in matrix.shares if share.device is device
                             and (place, share.span) not in found]
                    for device in self.devices}
            failed = await self._multiply(matrices, left, x, found)
            if not failed:
                break
            for device, error in failed.items():
                await self._replace(device, error)
        return joined(matrices, [[found[place, share.span] for share in matrix.shares]
                                 for place, matrix in enumerate(matrices)])

    async def _multiply(
        self, matrices: Sequence[SplitMatrix], left: dict[Device, list[tuple[int, DeviceShare]]],
        x: np.ndarray, found: _Found,
    ) -> dict[Device, HostError]:
        """Let each device multiply its shares, and return the errors of those that failed."""
        async def work(device: Device, shares: list[tuple[int, DeviceShare]]) -> HostError | None:
            try:
                for place, share in shares:
                    share.prepared = share.prepared or await matrices[place].prepare(share)
                products = await device.gemv_all(
                    [share.prepared for _, share in shares if share.prepared], x)
            except HostError as error:
                return error
            found.update({(place, share.span): product
                          for (place, share), product in zip(shares, products, strict=True)})
            return None

        errors = await asyncio.gather(*(work(*each) for each in left.items()))
        return {device: error for device, error in zip(left, errors, strict=True) if error}

    async def _replace(self, device: Device, error: HostError) -> None:
        """Take a device that failed out of the group."""
        self._failures.append(str(error))
        self.devices = tuple(other for other in self.devices if other is not device)
        await device.close()
        spare = await self._next_spare()
        self.devices += (spare,) if spare else ()
        self._successors[device] = [spare] if spare else list(self.devices)
        self._require()
        names = " and ".join(other.name or "another device" for other in self._successors[device])
        warnings.warn(f"{error}; its rows go to {names}", FailoverWarning, stacklevel=2)

    def _require(self) -> None:
        if not self.devices:
            raise DeviceError(f"no device is left ({'; '.join(self._failures)})")

    async def _next_spare(self) -> Device | None:
        """Return the first spare that responds."""
        while self.spares:
            spare = self.spares.pop(0)
            try:
                await spare.info()
                return spare
            except HostError as error:
                self._failures.append(str(error))
                await spare.close()
        return None

    async def _move(self, matrix: SplitMatrix) -> None:
        """Give the shares of devices that failed to their successors."""
        while lost := [share for share in matrix.shares if share.device in self._successors]:
            kept = [share for share in matrix.shares if share.device not in self._successors]
            for share in lost:
                heirs = [device for device in self._successors[share.device]
                         if device in self.devices] or self.devices
                kept += await self._split(matrix.work, share.span, heirs)
            matrix.shares = sorted(kept, key=lambda share: (share.span.tiles.start,
                                                            share.span.chunks.start))
