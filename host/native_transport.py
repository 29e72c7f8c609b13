"""A simulated device as a transport."""

from typing import Protocol

from host.errors import TransportTimeout

__all__ = ["Native", "NativeTransport"]


class Native(Protocol):
    """What a simulated device offers."""

    def push(self, data: bytes | memoryview) -> None:
        """Queue whole words; the simulated device takes them when it can."""
        ...

    def pull(self, count: int) -> bytes:
        """Simulate until ``count`` bytes of answers have come, and return them."""
        ...


class NativeTransport:
    """Transport to a device in this process; time passes only while answers are awaited.

    Parameters
    ----------
    device : Native
    hang : type
        What ``device.pull`` raises when the device stays silent.
    """

    def __init__(self, device: Native, hang: type[Exception] = TimeoutError):
        self._device = device
        self._hang = hang

    async def send(self, data: bytes | memoryview) -> None:
        """See :meth:`host.transport.Transport.send`."""
        self._device.push(data)

    async def recv(self, count: int) -> bytes:
        """See :meth:`host.transport.Transport.recv`."""
        try:
            return self._device.pull(count)
        except self._hang as error:
            raise TransportTimeout(f"simulated device stays silent: {error}") from error
