"""Serial ports as pyserial opens them: by name, or by a URL such as ``socket://HOST:PORT``."""

import re
import select
import time
from contextlib import suppress
from errno import EACCES, EAGAIN, EBUSY, ENOENT

import serial

from tritstream.host.errors import TransportClosed
from tritstream.hw.protocol import BYTE_BITS

__all__ = ["Port"]

#: Seconds between two looks at a port that select() cannot wait for.
_POLL = 0.001

#: Bytes read at once.
_CHUNK = 1 << 16

_ADVICE = {
    ENOENT: "no such port; `python -m serial.tools.list_ports` lists those there are",
    EACCES: "no permission; join the group that owns it (often dialout) and log in again",
    EAGAIN: "another program uses it",
    EBUSY:  "another program uses it",
}


class Port:
    """An open port, which no one else may use meanwhile where the platform can see to that.

    Parameters
    ----------
    name : str
        ``/dev/ttyUSB0``, ``COM3``, or a URL of pyserial: ``socket://HOST:PORT``,
        ``rfc2217://HOST:PORT``, ``hwgrep://PATTERN``.
    baud : int
        Bits per second.

    Raises :class:`TransportClosed` when the port cannot be opened. All methods raise
    :class:`OSError` when it is gone.
    """

    def __init__(self, name: str, baud: int):
        self._port = _open(name, baud)
        self._byte_seconds = BYTE_BITS / baud
        self._left_at = 0.0
        self._selectable = _is_selectable(self._port)
        if self._selectable:
            self._port.write_timeout = 0

    def wait(self, to_write: bool, seconds: float) -> tuple[bool, bool]:
        """Wait until bytes have come or, where asked for, can be written; whether each is so."""
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
        """What has come, at least one byte after :meth:`wait` saw that some has."""
        return self._port.read(_CHUNK if self._selectable else self._port.in_waiting)

    def write(self, data: memoryview) -> int:
        """Write some of ``data``; return the number of bytes."""
        count = self._port.write(data)
        self._left_at = max(self._left_at, time.monotonic()) + count * self._byte_seconds
        return count

    @property
    def is_sending(self) -> bool:
        """Whether bytes that were written have not left yet, as far as can be seen."""
        waiting = getattr(self._port, "out_waiting", None)
        # What is at the far end of a network does not tell; its line needs this long at least.
        return time.monotonic() < self._left_at if waiting is None else waiting > 0

    def close(self) -> None:
        """Give the port back."""
        self._port.close()


def _open(name: str, baud: int) -> serial.SerialBase:
    try:
        port = serial.serial_for_url(name, baud, timeout=0, exclusive=True)
    except (serial.SerialException, ValueError, re.error) as error:
        reason = _ADVICE.get(getattr(error, "errno", None), str(error))
        raise TransportClosed(f"{name}: cannot open it: {reason}") from error
    # Answers are short and waited for; USB bridges hold them back for 16 ms otherwise. pyserial
    # raises ValueError where the port, NotImplementedError where the platform has no such mode;
    # ports over a network have no such method.
    with suppress(AttributeError, ValueError, NotImplementedError):
        port.set_low_latency_mode(True)
    return port


def _is_selectable(port: serial.SerialBase) -> bool:
    try:
        select.select([port], [], [], 0)
    except (OSError, ValueError):
        return False
    return True
