"""Transport to a simulated device in this process."""

from collections.abc import Mapping

from tritstream.host.errors import TransportTimeout
from tritstream.host.transports.base import Stored, Transport
from tritstream.hw.config import DeviceConfig
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice, SimulationIdle

__all__ = ["NativeTransport", "simulated"]

#: Cycles of silence after which a device has sent every response it can.
_QUIET_CYCLES = 256


class NativeTransport(Transport):
    """Transport to a simulated device. Simulated time passes only while responses are awaited.

    Parameters
    ----------
    device : NativeDevice
        Simulated device, closed with the transport.
    about : mapping of str to str, optional
        How the device was made: engine and RTL.
    """

    def __init__(self, device: NativeDevice, about: Mapping[str, str] | None = None):
        self._device = device
        self.about = about or {}

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Queue ``data``: :meth:`tritstream.host.transports.base.Transport.send`."""
        self._device.push(self._bytes_only(data))

    async def recv(self, count: int) -> bytes:
        """Simulate until ``count`` bytes have come: :meth:`.Transport.recv`."""
        try:
            return self._device.pull(count)
        except SimulationIdle as error:
            raise TransportTimeout(str(error)) from error

    def ready(self) -> bytes:
        """Return response bytes that came together with those already received."""
        return self._device.ready()

    def exchange(self, data: bytes) -> bytes:
        """Send requests, and return every response until the device waits for more requests."""
        self._device.push(data)
        more = _QUIET_CYCLES
        while more == _QUIET_CYCLES:
            before = self._device.words_out
            self._device.idle(_QUIET_CYCLES)        # or until as many words have come
            more = self._device.words_out - before
        return self.ready()

    def reset(self) -> None:
        """Reset the device, even in the middle of a request."""
        self._device.reset()

    def close(self) -> None:
        """Delete the device: :meth:`tritstream.host.transports.base.Transport.close`."""
        self._device.close()


def simulated(config: DeviceConfig, rtl: str | None = None) -> NativeTransport:
    """Return the transport to a simulated device, which is built first, from ``rtl`` if given."""
    build = build_native(config.lanes, rtl or device_rtl(config))
    return NativeTransport(NativeDevice(build.library),
                           {"engine": build.engine, "rtl_sha256": build.rtl_sha256})
