"""A board on a serial port as a transport."""

import select
import termios
from contextlib import contextmanager, suppress
from errno import EACCES, EAGAIN, EBUSY, ENOENT

import serial

from host.errors import TransportClosed, TransportTimeout
from hw.protocol import BYTE_BITS, idle_bytes

__all__ = ["TIMEOUT", "SerialTransport"]

#: Seconds of silence by default.
TIMEOUT = 0.5

#: Bytes offered to the port at once: answers are taken in between.
_CHUNK = 1 << 12

_ADVICE = {
    ENOENT: "no such port; `python -m serial.tools.list_ports` lists those there are",
    EACCES: "no permission; join the group that owns it (often dialout) and log in again",
    EAGAIN: "another program uses it",
    EBUSY:  "another program uses it",
}


class SerialTransport:
    """Transport over a serial port of this machine (POSIX), which no one else may use meanwhile.

    Parameters
    ----------
    port : str
        Name of the port, such as ``/dev/ttyUSB0``.
    baud : int
        Bits a second, as the board was built for.
    timeout : float
        Seconds of silence after which the driver tries again. Must be longer than the silence
        after which the device gives up a frame.

    Raises :class:`TransportClosed` when the port cannot be opened, :class:`ValueError` when baud
    rate or timeout make no sense.
    """

    flow_control = False

    def __init__(self, port: str, baud: int, timeout: float = TIMEOUT):
        if not isinstance(baud, int) or baud <= 0:
            raise ValueError(f"{port}: baud must be a positive integer, not {baud!r}")
        idle = idle_bytes(baud) * BYTE_BITS / baud
        if not timeout > idle:
            raise ValueError(f"{port}: timeout must be longer than the {idle:.3g} s of silence "
                             f"after which a device gives up a frame, not {timeout!r}")
        self._name = port
        self._timeout = timeout
        self._answers = bytearray()
        self._port = _open(port, baud)

    async def send(self, data: bytes | memoryview) -> None:
        """Write ``data``, taking answers meanwhile: :meth:`host.transport.Transport.send`."""
        rest = memoryview(data).cast("B")
        with self._errors():
            while rest:
                readable, writable = self._wait([self._port])
                if writable:
                    rest = rest[self._port.write(rest[:_CHUNK]):]
                elif not readable:
                    raise TransportTimeout(f"{self._name}: took nothing for {self._timeout:g} s")

    async def recv(self, count: int) -> bytes:
        """Read ``count`` bytes: :meth:`host.transport.Transport.recv`."""
        with self._errors():
            while len(self._answers) < count:
                readable, _ = self._wait([])
                # Silence begins when everything has left.
                if not readable and not self._port.out_waiting:
                    raise TransportTimeout(f"{self._name}: silent for {self._timeout:g} s")
        data = bytes(self._answers[:count])
        del self._answers[:count]
        return data

    def close(self) -> None:
        """Give the port back."""
        self._port.close()

    def _wait(self, writers):
        """Wait until something can be done, and take what has come; what can be done."""
        readable, writable, _ = select.select([self._port], writers, [], self._timeout)
        if readable:
            self._answers += self._port.read(max(1, self._port.in_waiting))
        return readable, writable

    @contextmanager
    def _errors(self):
        try:
            yield
        except (OSError, termios.error) as error:
            raise TransportClosed(f"{self._name}: the port is gone ({error})") from error


def _open(port, baud):
    try:
        opened = serial.Serial(port, baud, timeout=0, write_timeout=0, exclusive=True)
    except serial.SerialException as error:
        reason = _ADVICE.get(error.errno, str(error))
        raise TransportClosed(f"{port}: cannot open it: {reason}") from error
    # Answers are short and waited for; USB bridges hold them back for 16 ms otherwise. pyserial
    # raises ValueError where the port, NotImplementedError where the platform has no such mode.
    with suppress(ValueError, NotImplementedError):
        opened.set_low_latency_mode(True)
    return opened
