"""Device with blocking methods, for scripts and notebooks."""

import numpy as np

from tritstream.golden.activation import quantize_activation
from tritstream.golden.gemv import results
from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.host.device_group import DeviceGroup
from tritstream.host.open_device import open_device
from tritstream.host.own_loop import OwnLoop
from tritstream.host.protocol.records import Info

__all__ = ["SyncDevice"]


class SyncDevice:
    """A device, or several as one, whose methods return results instead of awaitables.

    This works inside a notebook's event loop too (:class:`.OwnLoop`). Use it in a ``with``
    statement, or call :meth:`close`.

    Parameters
    ----------
    specs : str
        Devices, as :func:`.open_device` takes them: ``sim``, ``sim:lanes=32``, ``tcp://HOST:PORT``.

    Raises what :func:`.open_device` raises.
    """

    def __init__(self, specs: str = "sim"):
        device = open_device(specs)
        # A group of one has the results of its device.
        self._device = device if isinstance(device, DeviceGroup) else DeviceGroup([device])
        self._loop = OwnLoop()

    def __enter__(self) -> "SyncDevice":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the device and its event loop."""
        with self._loop:
            self._loop.run(self._device.close)

    def info(self) -> Info:
        """Return what the device reports about itself."""
        return self._loop.run(self._device.info)

    def gemv(self, matrix: TritMatrix | DirectMatrix, x: np.ndarray) -> np.ndarray:
        """Return the exact row sums of a matrix and int8 activations.

        Equals :func:`tritstream.golden.gemv.gemv`: (K,) to int64 (N,), or (B, K) to (B, N).

        Raises :class:`ValueError` if the shapes do not fit, :class:`.DeviceError` if the device
        refuses or every retry failed.
        """
        return self._loop.run(self._gemv, matrix, x)

    def multiply(self, matrix: TritMatrix | DirectMatrix, x: np.ndarray) -> np.ndarray:
        """Return float32 results for float activations: (K,) to (N,), or (B, K) to (B, N).

        Activations are rounded to int8 with one scale per vector; the device's row sums are exact.
        """
        levels, scale = quantize_activation(x)
        return results(self.gemv(matrix, levels), matrix.scales.units, matrix.depth, scale)

    async def _gemv(self, matrix: TritMatrix | DirectMatrix, x: np.ndarray) -> np.ndarray:
        sums, _ = await self._device.gemv(await self._device.prepare(matrix), x)
        return sums
