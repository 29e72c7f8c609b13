"""Bus of a board over a serial port: LiteX's UARTBone, as on boards without Ethernet."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from struct import Struct

import numpy as np

from tritstream.host.board.link import Link
from tritstream.host.errors import BadAnswer, TransportClosed, TransportTimeout
from tritstream.host.transports.port import GONE, Port
from tritstream.hw.protocol import BYTE_BITS
from tritstream.hw.soc.registers import MAGIC, register

__all__ = ["MOST_WORDS", "READ", "WRITE", "UartLink"]

#: Commands of UARTBone that increase the address, and the most words of a command.
WRITE, READ, MOST_WORDS = 1, 2, 255

_HEAD = Struct(">BBI")

#: Seconds after which the bridge gives up a command that is not complete, and the most seconds
#: that a command may take on the line.
_GIVES_UP, _LONGEST = 0.1, 0.05

#: Bytes that are written between two acknowledgements, and offered to the port at a time.
_CHUNK, _PIECE = 1 << 14, 1 << 12

#: Times of silence that a line may take to become silent.
_NOISE = 10


class UartLink(Link):
    """Bus of a board behind a serial port: :class:`.Link`.

    The bridge acknowledges no write, has no checksum, and drops what comes while it responds. So a
    command follows the response to the one before, and writes are followed by a read, whose
    response says that the bridge has taken all bytes. After silence, the bridge gives up its
    command in 0.1 s, and all commands since the last response are sent again.

    Blocking calls run in a thread, so that other devices work meanwhile.

    Parameters
    ----------
    port : str
        Name or URL of the port: :class:`.Port`.
    baud : int
        Bits per second for which the board was built.
    timeout : float
        Seconds of silence after which commands are sent again, more than 0.1.
    tries : int
        How often commands are sent at most.

    Raises :class:`.TransportClosed` when the port cannot be opened, :class:`ValueError` for invalid
    numbers.

    Members
    -------
    repeated : int
        How often commands were sent again.
    """

    def __init__(self, port: str, baud: int, timeout: float = 0.25, tries: int = 5):
        # The shortest command that is useful has a header and a word.
        if not isinstance(baud, int) or baud * _LONGEST < BYTE_BITS * (_HEAD.size + 4):
            raise ValueError(f"{port}: baud must be an integer of 2000 or more, not {baud!r}")
        if not (_GIVES_UP < timeout < float("inf") and tries > 0):
            raise ValueError(f"{port}: the time until a command is repeated must be above "
                             f"{_GIVES_UP:g} s, and tries above 0")
        self._name, self._timeout, self._tries = port, timeout, tries
        line = int(baud * _LONGEST / BYTE_BITS - _HEAD.size) // 4
        self._words = min(MOST_WORDS, line)
        self._port = Port(port, baud)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="uartbone")
        self.repeated = self.round_trips = 0

    async def write(self, address: int, data: bytes | memoryview) -> None:
        """Write to any address: :meth:`.Link.write`."""
        for at in range(0, len(data), _CHUNK):
            commands = self._writing(address + at, data[at:at + _CHUNK])
            await self._exchange(commands + _reading(register("magic"), 1), 1, _is_magic)

    async def read(self, address: int, size: int) -> bytes:
        """Read from any address: :meth:`.Link.read`."""
        parts = []
        for at in range(0, size, 4 * self._words):
            count = min(self._words, (size - at) // 4)
            parts.append(await self._exchange(_reading(address + at, count), count))
        return b"".join(parts)

    async def get(self, *names: str) -> list[int]:
        """Read registers, and all between them: :meth:`.Link.get`."""
        places = [register(name) for name in names]
        first = min(places)
        words = _words(await self.read(first, max(places) + 4 - first))
        return [words[(place - first) // 4] for place in places]

    async def put(self, name: str, *values: int, then: str) -> int:
        """Write registers, and read one and those written: :meth:`.Link.put`.

        Raises :class:`.BadAnswer` if the board has other values than were written.
        """
        first, last = register(name), register(name) + 4 * (len(values) - 1)
        start = min(first, register(then))
        count = (max(last, register(then)) - start) // 4 + 1
        data = np.array([value % (1 << 32) for value in values], "<u4").tobytes()
        found = _words(await self._exchange(
            self._writing(first, data) + _reading(start, count), count))
        at = (first - start) // 4
        if found[at:at + len(values)] != _words(data):
            raise BadAnswer(f"{self._name}: the board has other values than were written to its "
                            f"register {name!r}; check the line")
        return found[(register(then) - start) // 4]

    def close(self) -> None:
        """Wait until no call uses the port, and close it."""
        self._thread.shutdown()
        self._port.close()

    def _writing(self, address: int, data: bytes | memoryview) -> bytes:
        """Return the commands that write words from an address on."""
        words = np.frombuffer(data, "<u4").astype(">u4")
        return b"".join(
            _HEAD.pack(WRITE, len(words[at:at + self._words]), address // 4 + at)
            + words[at:at + self._words].tobytes() for at in range(0, len(words), self._words))

    async def _exchange(
        self, commands: bytes, count: int, accept: Callable[[bytes], bool] = lambda _: True,
    ) -> bytes:
        """Send commands, of which the last reads ``count`` words; return these words."""
        self.round_trips += 1
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._until_answered, commands, 4 * count, accept)

    def _until_answered(
        self, commands: bytes, size: int, accept: Callable[[bytes], bool],
    ) -> bytes:
        for attempt in range(self._tries):
            self.repeated += attempt > 0
            try:
                self._discard(self._timeout if attempt else 0)
                self._send(commands)
                received = self._receive(size)
            except GONE as error:
                raise TransportClosed(f"{self._name}: the port is gone ({error})") from error
            if len(received) == size and accept(words := _swapped(received)):
                return words
        raise TransportTimeout(f"{self._name}: no board answers with UARTBone, tried {self._tries} "
                               f"times in {self._tries * self._timeout:g} s")

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            readable, writable = self._port.wait(True, self._timeout)
            if readable:
                self._port.read()               # of an earlier response: none is due yet
            if writable:
                rest = rest[self._port.write(rest[:_PIECE]):]
            elif not readable:
                return                          # there will be no response either

    def _receive(self, size: int) -> bytes:
        """Return bytes that came before a silence: ``size`` of them, or fewer."""
        received = b""
        while len(received) < size:
            readable, _ = self._port.wait(False, self._timeout)
            if readable:
                received += self._port.read()
            elif not self._port.is_sending:
                break
        return received

    def _discard(self, seconds: float) -> None:
        """Discard bytes of an earlier response, until the line was silent for some time."""
        end = time.monotonic() + _NOISE * self._timeout
        while self._port.wait(False, seconds)[0]:
            self._port.read()
            if time.monotonic() > end:
                raise TransportTimeout(f"{self._name}: the line is never silent; check that the "
                                       "board was built for this baud rate")


def _reading(address: int, count: int) -> bytes:
    """Return the command that reads words from an address on."""
    return _HEAD.pack(READ, count, address // 4)


def _swapped(data: bytes) -> bytes:
    """Return words in the other order of bytes."""
    return np.frombuffer(data, ">u4").astype("<u4").tobytes()


def _words(data: bytes) -> list[int]:
    return np.frombuffer(data, "<u4").tolist()


def _is_magic(data: bytes) -> bool:
    return _words(data) == [MAGIC]
