"""Reader of responses from a byte stream, which resynchronizes after a damaged one."""

from collections.abc import Sequence

from tritstream.golden.fixed_point import ROWS
from tritstream.host.errors import BadAnswer
from tritstream.host.protocol.frames import Answer, Header, answer, rest_bytes
from tritstream.host.protocol.results import Results
from tritstream.host.transports.base import Transport
from tritstream.hw.config import LANE_COUNTS
from tritstream.hw.protocol import HEADER_BYTES, MAGIC, SUM_BYTES, Opcode

__all__ = ["HUNT_LIMIT", "MAX_LENGTH", "AnswerReader"]

#: Bytes without a valid header after which a hunt fails: many times the longest response.
HUNT_LIMIT = 1 << 16

#: Bytes of the longest payload of a response, a RESULT.
MAX_LENGTH = ROWS * max(LANE_COUNTS) * SUM_BYTES

_MAGIC = MAGIC.to_bytes(2, "little")


class AnswerReader:
    """Reader of a device's responses.

    A header is valid if its magic and CRC are right, its opcode is that of a response, and its
    length is possible. In sync, an invalid header is an error. Out of sync (initially, and after
    any error), the reader hunts for the next valid header. It hunts by bytes and not by words,
    because lost bytes shift the words, and because the word size is unknown before the first INFO.

    Members
    -------
    lanes : int or None
        Bytes per word. None until an INFO reports them; until then only INFO and ERROR are valid.
    """

    def __init__(self, transport: Transport):
        self._transport = transport
        self._received = bytearray()
        self.lanes: int | None = None
        self._in_sync = False

    def forget_lanes(self) -> None:
        """Take the word size from the next INFO again."""
        self.lanes = None
        self._in_sync = False

    async def read(self) -> Answer:
        """Return the next response.

        Raises :class:`BadAnswer` when it is damaged or a hunt finds no valid header
        within :data:`HUNT_LIMIT` bytes, and the errors of the transport.
        """
        in_sync, self._in_sync = self._in_sync, False
        header = await (self._next_header() if in_sync else self._hunt())
        # If the rest does not come, the next hunt must not find this header again.
        del self._received[:HEADER_BYTES]
        if self.lanes is None:
            return Answer(header, b"")
        size = rest_bytes(header, self.lanes)
        await self._receive(size)
        rest = bytes(self._received[:size])
        del self._received[:size]
        response = answer(header, rest, self.lanes)
        self._in_sync = True
        return response

    async def read_all(
        self, loads: Sequence[int], sequence: int, results: Results,
    ) -> bytes | None:
        """Wait for a response, and read all that is due to a GEMV if it has come.

        Returns the payload of DONE, or None if anything is missing or not as expected, which is
        left to the other methods: :meth:`.Results.take_all`. Raises the errors of the transport.
        """
        return results.take_all(self._received, loads, sequence) if await self._wait() else None

    async def read_results(self, sequence: int, results: Results) -> None:
        """Wait for a response, and add the RESULTs that have come, as far as they are as expected.

        The expected ones are those of request ``sequence``, complete, valid and in order. All
        other responses are left to :meth:`read`. Raises the errors of the transport.
        """
        if await self._wait():
            del self._received[:results.add_all(self._received, sequence)]

    async def _wait(self) -> int | None:
        """Wait for the header of a response if in sync; return the lanes then, None otherwise."""
        if not self._in_sync:
            return None
        self._in_sync = False       # stays so if the header does not come
        if len(self._received) < HEADER_BYTES:
            await self._receive(HEADER_BYTES)
        self._in_sync = True
        return self.lanes

    def discard(self) -> None:
        """Discard the bytes that were received and not read."""
        self._received.clear()

    async def _receive(self, count: int) -> None:
        """Wait until ``count`` bytes were received."""
        if len(self._received) < count:
            self._received += await self._transport.recv(count - len(self._received))
            self._received += self._transport.ready()

    async def _next_header(self) -> Header:
        header = await self._look()
        if header is None:
            raise BadAnswer("answer starts with no valid header")
        return header

    async def _hunt(self) -> Header:
        hunted = 0
        while hunted <= HUNT_LIMIT:
            header = await self._look()
            if header is not None:
                return header
            # A response that starts at the next magic is no shorter than a header, so the hunt
            # never waits for a byte that does not come.
            skipped = _skip(self._received)
            del self._received[:skipped]
            hunted += skipped
        raise BadAnswer(f"no answer in {hunted} bytes")

    async def _look(self) -> Header | None:
        """Return the header at the current position, None if it is invalid. Consume nothing."""
        await self._receive(HEADER_BYTES)
        header = Header.parse(self._received)
        return header if header and self._is_valid(header) else None

    def _is_valid(self, header: Header) -> bool:
        if header.length > MAX_LENGTH:
            return False
        if self.lanes is None:
            if header.opcode == Opcode.INFO and header.arg0 in LANE_COUNTS:
                self.lanes = header.arg0
            return self.lanes is not None or header.opcode == Opcode.ERROR
        return header.opcode >= Opcode.INFO


def _skip(received: bytearray) -> int:
    """Return the bytes before the next offset where a header may start, at least one."""
    offset = received.find(_MAGIC, 1)
    if offset > 0:
        return offset
    return len(received) - received.endswith(_MAGIC[:1])
