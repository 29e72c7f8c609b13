"""A board's bus over UDP: reads and writes that come through whatever the network does."""

import asyncio
import secrets
from collections.abc import Iterable

from tritstream.host.board.etherbone import MOST_WORDS, answer, request
from tritstream.host.errors import TransportClosed, TransportTimeout
from tritstream.hw.soc.registers import register

__all__ = ["BOARD_PORT", "BoardLink"]

#: UDP port of a board.
BOARD_PORT = 1234

_CHUNK = 4 * MOST_WORDS
_NUMBERS = 1 << 32


class BoardLink(asyncio.DatagramProtocol):
    """Reads and writes of a board, each repeated until it is answered.

    A write is answered too, for its packet reads a word afterwards. Datagrams may get lost, come
    twice, or in another order. So a write may happen again after its answer, even after a later
    write to the same place: registers are made for that (:mod:`tritstream.hw.soc.registers`), and what is in
    memory is under a CRC, of which the board tells.

    Parameters
    ----------
    host, port
        Of the board.
    bind : int
        Port of this end. LiteEth answers to the port it is asked at, so it is the same on a real
        board.
    timeout : float
        Seconds after which a packet is sent again.
    tries : int
        How often it is sent at most.
    window : int
        Packets under way. LiteEth holds little more than one that it works on; what it cannot hold
        is lost, and sent again.

    Members
    -------
    repeated : int
        Packets that were sent again.
    """

    def __init__(self, host: str, port: int, bind: int, timeout: float = 0.05, tries: int = 40,
                 window: int = 2):
        if not (timeout > 0 and tries > 0 and window > 0):
            raise ValueError("timeout, tries and window must be above 0")
        self._place, self._bind = (host, port), bind
        self._timeout, self._tries = timeout, tries
        self._window = asyncio.Semaphore(window)
        self._endpoint: asyncio.DatagramTransport | None = None
        #: By number of a packet: how many bytes of words its answer has, and who waits for it.
        self._due: dict[int, tuple[int, asyncio.Future[bytes]]] = {}
        # Not the numbers of whoever was here before, whose answers may still come.
        self._number = secrets.randbelow(_NUMBERS)
        self.repeated = 0

    async def write(self, address: int, data: bytes | memoryview) -> None:
        """Write bytes, whole words, anywhere on the bus."""
        await self._together(
            self._exchange(address + at, data[at:at + _CHUNK], [register("magic")])
            for at in range(0, len(data), _CHUNK))

    async def read(self, address: int, size: int) -> bytes:
        """Read bytes, whole words."""
        places = range(address, address + size, 4)
        return b"".join(await self._together(
            self._exchange(0, b"", list(places[at:at + MOST_WORDS]))
            for at in range(0, len(places), MOST_WORDS)))

    async def get(self, *names: str) -> list[int]:
        """Registers, read one after the other in one packet."""
        data = await self._exchange(0, b"", [register(name) for name in names])
        return [int.from_bytes(data[at:at + 4], "little") for at in range(0, len(data), 4)]

    async def put(self, name: str, *values: int, then: str) -> int:
        """Write registers from ``name`` on, and read another in the same packet."""
        data = b"".join((value % _NUMBERS).to_bytes(4, "little") for value in values)
        found = await self._exchange(register(name), data, [register(then)])
        return int.from_bytes(found, "little")

    def close(self) -> None:
        """Give the socket back."""
        if self._endpoint:
            self._endpoint.close()

    def datagram_received(self, data: bytes, _) -> None:
        """An answer: of :class:`asyncio.DatagramProtocol`."""
        number, words = answer(data) or (None, b"")
        size, due = self._due.get(number, (0, None))
        if due and len(words) == size and not due.done():
            due.set_result(words)

    def error_received(self, _) -> None:
        """A board that cannot be reached is one that does not answer."""

    async def _together(self, exchanges: Iterable) -> list[bytes]:
        """All of them, a few at a time."""
        answers: list[bytes] = []
        some: list = []
        for exchange in exchanges:
            some.append(exchange)
            if len(some) == 256:
                answers += await asyncio.gather(*some)
                some = []
        return answers + await asyncio.gather(*some)

    async def _exchange(self, address: int, data: bytes | memoryview, reads: list[int]) -> bytes:
        async with self._window:
            endpoint = self._endpoint or await self._open()
            self._number = number = (self._number + 1) % _NUMBERS
            packet = request(number, address, data, reads)
            due = asyncio.get_running_loop().create_future()
            self._due[number] = 4 * len(reads), due
            try:
                for attempt in range(self._tries):
                    endpoint.sendto(packet)
                    self.repeated += attempt > 0
                    done, _ = await asyncio.wait([due], timeout=self._timeout)
                    if done:
                        return due.result()
            finally:
                del self._due[number]
            raise TransportTimeout(f"{self._place[0]} port {self._place[1]} does not answer, tried "
                                   f"{self._tries} times in {self._tries * self._timeout:g} s")

    async def _open(self) -> asyncio.DatagramTransport:
        try:
            self._endpoint, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, local_addr=("0.0.0.0", self._bind), remote_addr=self._place)
        except OSError as error:
            raise TransportClosed(f"no UDP from port {self._bind} to {self._place[0]} port "
                                  f"{self._place[1]}: {error.strerror or error}") from None
        return self._endpoint

