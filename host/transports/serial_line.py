"""Transport to a board on a serial port."""

from collections.abc import Iterator
from contextlib import contextmanager

from tritstream.host.errors import TransportClosed, TransportTimeout
from tritstream.host.transports.base import Stored, Transport
from tritstream.host.transports.port import GONE, Port
from tritstream.hw.protocol import BYTE_BITS, idle_bytes

__all__ = ["BAUD", "TIMEOUT", "SerialTransport"]

#: Default bits per second, for which most of the boards are built.
BAUD = 3_000_000

#: Default seconds of silence.
TIMEOUT = 0.5

#: Bytes offered to the port at a time, because responses must be read in between.
_CHUNK = 1 << 12


class SerialTransport(Transport):
    """Transport over a serial port.

    Parameters
    ----------
    port : str
        Name or URL of the port, as :class:`tritstream.host.transports.port.Port` opens it.
    baud : int
        Bits per second for which the board was built.
    timeout : float
        Seconds of silence after which the driver retries. Must be longer than the silence after
        which the device gives up a frame.

    Raises :class:`TransportClosed` when the port cannot be opened, :class:`ValueError` when the
    baud rate or the timeout is invalid.
    """

    flow_control = False

    def __init__(self, port: str, baud: int, timeout: float = TIMEOUT) -> None:
        if not isinstance(baud, int) or baud <= 0:
            raise ValueError(f"{port}: baud must be a positive integer, not {baud!r}")
        idle = idle_bytes(baud) * BYTE_BITS / baud
        if not idle < timeout < float("inf"):
            raise ValueError(f"{port}: timeout must be longer than the {idle:.3g} s of silence "
                             f"after which a device gives up a frame, not {timeout!r}")
        self._name = port
        self._timeout = timeout
        self._answers = bytearray()
        self._port = Port(port, baud)

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Write ``data`` and read responses meanwhile: :meth:`.Transport.send`."""
        rest = memoryview(self._bytes_only(data)).cast("B")
        with self._errors():
            while rest:
                readable, writable = self._wait(to_write=True)
                if writable:
                    rest = rest[self._port.write(rest[:_CHUNK]):]
                elif not readable:
                    raise TransportTimeout(f"{self._name}: took nothing for {self._timeout:g} s")

    async def recv(self, count: int) -> bytes:
        """Read ``count`` bytes: :meth:`tritstream.host.transports.base.Transport.recv`."""
        with self._errors():
            while len(self._answers) < count:
                readable, _ = self._wait(to_write=False)
                # Silence starts when every byte has left.
                if not readable and not self._port.is_sending:
                    raise TransportTimeout(f"{self._name}: silent for {self._timeout:g} s")
        data = bytes(self._answers[:count])
        del self._answers[:count]
        return data

    def ready(self) -> bytes:
        """Return response bytes that were read with others: :meth:`.Transport.ready`."""
        data = bytes(self._answers)
        self._answers.clear()
        return data

    def close(self) -> None:
        """Close the port."""
        self._port.close()

    def _wait(self, to_write: bool) -> tuple[bool, bool]:
        """Wait for the port and read the bytes that came; return whether it was read, can write."""
        readable, writable = self._port.wait(to_write, self._timeout)
        if readable:
            self._answers += self._port.read()
        return readable, writable

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except GONE as error:
            raise TransportClosed(f"{self._name}: the port is gone ({error})") from error
