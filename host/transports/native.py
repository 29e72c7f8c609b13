"""The simulated device as a transport."""

from tritstream.host.errors import TransportTimeout
from tritstream.sim.native import NativeDevice, SimulationIdle

__all__ = ["NativeTransport"]

#: A device that is quiet for so many cycles has answered, as far as it can.
_QUIET_CYCLES = 256


class NativeTransport:
    """Transport to a simulated device in this process; time passes only while answers are awaited.

    Parameters
    ----------
    device : NativeDevice
    about : dict, optional
        What is known of how it was made.
    """

    def __init__(self, device: NativeDevice, about: dict[str, str] | None = None):
        self._device = device
        self.about = about or {}

    async def send(self, data: bytes | memoryview) -> None:
        """Queue ``data``: :meth:`tritstream.host.transports.base.Transport.send`."""
        self._device.push(data)

    async def recv(self, count: int) -> bytes:
        """Simulate until the bytes are there: :meth:`.Transport.recv`."""
        try:
            return self._device.pull(count)
        except SimulationIdle as error:
            raise TransportTimeout(str(error)) from error

    def ready(self) -> bytes:
        """Answers that have come along with those that were received."""
        return self._device.ready()

    def exchange(self, data: bytes) -> bytes:
        """Give the device some requests; all that it answers until it waits for more of them."""
        self._device.push(data)
        more = _QUIET_CYCLES
        while more == _QUIET_CYCLES:
            before = self._device.words_out
            self._device.idle(_QUIET_CYCLES)        # or until so many words have come
            more = self._device.words_out - before
        return self.ready()

    def reset(self) -> None:
        """Reset the device in the middle of whatever it is at."""
        self._device.reset()

    def close(self) -> None:
        """Delete the device: :meth:`tritstream.host.transports.base.Transport.close`."""
        self._device.close()
