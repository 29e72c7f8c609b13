"""The simulated device as a transport."""

from host.errors import TransportTimeout
from sim.native import NativeDevice, SimulationIdle

__all__ = ["NativeTransport"]


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
        """Queue ``data``: :meth:`host.transport.Transport.send`."""
        self._device.push(data)

    async def recv(self, count: int) -> bytes:
        """Simulate until the bytes are there: :meth:`host.transport.Transport.recv`."""
        try:
            return self._device.pull(count)
        except SimulationIdle as error:
            raise TransportTimeout(str(error)) from error

    def close(self) -> None:
        """Delete the device: :meth:`host.transport.Transport.close`."""
        self._device.close()
