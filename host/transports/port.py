"""Serial ports that pyserial opens by name, or by a URL such as ``socket://HOST:PORT``."""

import re
import select
import time
from contextlib import suppress
from errno import EACCES, EAGAIN, EBUSY, ENOENT

import serial

from tritstream.host.errors import TransportClosed
from tritstream.hw.protocol import BYTE_BITS

__all__ = ["GONE", "Port"]

#: Errors of a port that is gone.
GONE: tuple[type[Exception], ...] = (OSError,)
with suppress(ModuleNotFoundError):                 # Windows has no termios
    import termios
    GONE += (termios.error,)

#: Seconds between two polls of a port for which select() cannot wait.
_POLL = 0.001

#: Bytes read at a time.
_CHUNK = 1 << 16

_ADVICE = {
    ENOENT: "no such port; `python -m serial.tools.list_ports` lists those there are",
    EACCES: "no permission; join the group that owns it (often dialout) and log in again",
    EAGAIN: "another program uses it",
    EBUSY:  "another program uses it",
}


class Port:
    """An open port, locked against other programs where the platform supports that.

    Parameters
    ----------
    name : str
        Port name or URL: ``/dev/ttyUSB0``, ``COM3``, ``socket://HOST:PORT``, ``rfc2217://HOST:PORT``,
        ``hwgrep://PATTERN``.
    baud : int
        Bits per second.

    Raises :class:`TransportClosed` when the port cannot be opened. All methods raise
    an error of :data:`GONE` when the port is gone.
    """

    def __init__(self, name: str, baud: int):
        self._port = _open(name, baud)
        self._byte_seconds = BYTE_BITS / baud
        self._left_at = 0.0
        self._selectable = _is_selectable(self._port)
        if self._selectable:
            self._port.write_timeout = 0

    def wait(self, to_write: bool, seconds: float) -> tuple[bool, bool]:
        """Wait until bytes can be read, or written if asked for; return both as flags."""
        if not self._port.is_open:
            raise serial.PortNotOpenError
        if self._selectable:
            readable, writable, _ = select.select(
                [self._port], [self._port] if to_write else [], [], seconds)
            return bool(readable), bool(writable)
        end = time.monotonic() + seconds
        while not (to_write or self._port.in_waiting) and time.monotonic() < end:
            time.sleep(_POLL)
        return bool(self._port.in_waiting), to_write

    def read(self) -> bytes:
        """Return the bytes that came; at least one byte if :meth:`wait` reported some."""
        return self._port.read(_CHUNK if self._selectable else self._port.in_waiting)

    def write(self, data: memoryview) -> int:
        """Write some of ``data``; return the number of bytes."""
        count = self._port.write(data)
        self._left_at = max(self._left_at, time.monotonic()) + count * self._byte_seconds
        return count

    @property
    def is_sending(self) -> bool:
        """Whether written bytes have not left the port yet, as far as the platform reports it."""
        waiting = getattr(self._port, "out_waiting", None)
        # A port at the far end of a network reports nothing; its line needs this long at least.
        return time.monotonic() < self._left_at if waiting is None else waiting > 0

    def close(self) -> None:
        """Close the port."""
        self._port.close()


def _open(name: str, baud: int) -> serial.SerialBase:
    try:
        port = serial.serial_for_url(name, baud, timeout=0, exclusive=True)
    except (serial.SerialException, ValueError, re.error) as error:
        code = error.errno if isinstance(error, OSError) else None
        reason = _ADVICE.get(code or 0, str(error))
        raise TransportClosed(f"{name}: cannot open it: {reason}") from error
    # Without this mode a USB bridge holds a short response back for 16 ms. pyserial raises
    # ValueError if the port, NotImplementedError if the platform has no such mode; ports over a
    # network have no such method.
    with suppress(AttributeError, ValueError, NotImplementedError):
        port.set_low_latency_mode(True)
    return port


def _is_selectable(port: serial.SerialBase) -> bool:
    try:
        select.select([port], [], [], 0)
    except (OSError, ValueError):
        return False
    return True
