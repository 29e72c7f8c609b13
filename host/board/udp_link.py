"""Bus of a board over UDP: reads and writes that are repeated until they are acknowledged."""

import asyncio
import secrets
from collections.abc import Coroutine, Iterable

from tritstream.host.board.etherbone import MOST_WORDS, answer, request
from tritstream.host.board.link import Link
from tritstream.host.errors import TransportClosed, TransportTimeout
from tritstream.hw.soc.registers import register

__all__ = ["BOARD_PORT", "BoardLink"]

#: UDP port of a board.
BOARD_PORT = 1234

_CHUNK = 4 * MOST_WORDS
_NUMBERS = 1 << 32

#: Packets prepared at a time.
_BATCH = 256

_Exchange = Coroutine[object, object, bytes]


class BoardLink(asyncio.DatagramProtocol, Link):
    """Bus of a board, on which each read and write is repeated until the board responds.

    The board responds to a write too, because its packet reads a word afterwards. Datagrams may get
    lost, duplicated or reordered. A write may therefore happen again after its response, even after
    a later write to the same address. The registers allow that
    (:mod:`tritstream.hw.soc.registers`), and a CRC that the board checks protects memory.

    LiteX's own Etherbone client is synchronous and does not repeat packets.

    Parameters
    ----------
    host, port : str, int
        Address and UDP port of the board.
    bind : int
        UDP port of this end. LiteEth responds to the port at which it was addressed, so for a real
        board both ports are the same.
    timeout : float
        Seconds after which a packet is sent again.
    tries : int
        How often a packet is sent at most.
    window : int
        Packets on their way at the same time. LiteEth holds little more than the packet on which
        it works; it drops others, which are sent again.

    Members
    -------
    repeated : int
        Packets that were sent again.
    round_trips : int
        Length of the longest chain of packets so far, each sent after the response to the one
        before it had come. On a fast link, this many delays of the network pass.
    """

    def __init__(self, host: str, port: int, bind: int, timeout: float = 0.05, tries: int = 40,
                 window: int = 2):
        if not (timeout > 0 and tries > 0 and window > 0):
            raise ValueError("timeout, tries and window must be above 0")
        self._board, self._bind = (host, port), bind
        self._timeout, self._tries = timeout, tries
        self._window = asyncio.Semaphore(window)
        self._endpoint: asyncio.DatagramTransport | None = None
        #: By number of a packet: bytes of words in its response, and the future that awaits it.
        self._expected: dict[int, tuple[int, asyncio.Future[bytes]]] = {}
        # Random, because responses to packets of an earlier client may still come.
        self._number = secrets.randbelow(_NUMBERS)
        self.repeated = self.round_trips = 0

    async def write(self, address: int, data: bytes | memoryview) -> None:
        """Write to any address: :meth:`.Link.write`."""
        await self._together(
            self._exchange(address + at, data[at:at + _CHUNK], [register("magic")])
            for at in range(0, len(data), _CHUNK))

    async def read(self, address: int, size: int) -> bytes:
        """Read from any address: :meth:`.Link.read`."""
        addresses = range(address, address + size, 4)
        return b"".join(await self._together(
            self._exchange(0, b"", list(addresses[at:at + MOST_WORDS]))
            for at in range(0, len(addresses), MOST_WORDS)))

    async def get(self, *names: str) -> list[int]:
        """Read registers in one packet: :meth:`.Link.get`."""
        data = await self._exchange(0, b"", [register(name) for name in names])
        return [int.from_bytes(data[at:at + 4], "little") for at in range(0, len(data), 4)]

    async def put(self, name: str, *values: int, then: str) -> int:
        """Write registers and read one in the same packet: :meth:`.Link.put`."""
        data = b"".join((value % _NUMBERS).to_bytes(4, "little") for value in values)
        value = await self._exchange(register(name), data, [register(then)])
        return int.from_bytes(value, "little")

    def close(self) -> None:
        """Close the socket."""
        if self._endpoint:
            self._endpoint.close()

    def datagram_received(self, data: bytes, address: object) -> None:
        """Take a response: method of :class:`asyncio.DatagramProtocol`."""
        number, words = answer(data) or (-1, b"")
        if number not in self._expected:
            return
        size, response = self._expected[number]
        if len(words) == size and not response.done():
            response.set_result(words)

    def error_received(self, error: Exception) -> None:
        """Ignore an error of the network: the board does not respond, and the packet is resent."""

    async def _together(self, exchanges: Iterable[_Exchange]) -> list[bytes]:
        """Await exchanges, a batch at a time."""
        responses: list[bytes] = []
        batch: list[_Exchange] = []
        for exchange in exchanges:
            batch.append(exchange)
            if len(batch) == _BATCH:
                responses += await asyncio.gather(*batch)
                batch = []
        return responses + await asyncio.gather(*batch)

    async def _exchange(self, address: int, data: bytes | memoryview, reads: list[int]) -> bytes:
        async with self._window:
            endpoint = self._endpoint or await self._open()
            self._number = number = (self._number + 1) % _NUMBERS
            packet = request(number, address, data, reads)
            response = asyncio.get_running_loop().create_future()
            self._expected[number] = 4 * len(reads), response
            link = self.round_trips + 1
            try:
                for attempt in range(self._tries):
                    endpoint.sendto(packet)
                    self.repeated += attempt > 0
                    done, _ = await asyncio.wait([response], timeout=self._timeout)
                    if done:
                        self.round_trips = max(self.round_trips, link)
                        return response.result()
            finally:
                del self._expected[number]
            raise TransportTimeout(f"{self._board[0]} port {self._board[1]} does not answer, tried "
                                   f"{self._tries} times in {self._tries * self._timeout:g} s")

    async def _open(self) -> asyncio.DatagramTransport:
        try:
            self._endpoint, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, local_addr=("0.0.0.0", self._bind), remote_addr=self._board)
        except OSError as error:
            raise TransportClosed(f"no UDP from port {self._bind} to {self._board[0]} port "
                                  f"{self._board[1]}: {error.strerror or error}") from None
        return self._endpoint
