"""Answers out of a byte stream, and back in step after a damaged one."""

from tritstream.golden.fixed_point import ROWS
from tritstream.host.errors import BadAnswer
from tritstream.host.protocol.frames import Answer, Header, answer, rest_bytes
from tritstream.host.transports.base import Transport
from tritstream.hw.config import LANE_COUNTS
from tritstream.hw.protocol import HEADER_BYTES, MAGIC, SUM_BYTES, Opcode

__all__ = ["HUNT_LIMIT", "MAX_LENGTH", "AnswerReader"]

#: Bytes without a header after which a hunt is given up: many times the longest answer.
HUNT_LIMIT = 1 << 16

#: Bytes of the longest payload of an answer, a RESULT.
MAX_LENGTH = ROWS * max(LANE_COUNTS) * SUM_BYTES
_MAGIC = MAGIC.to_bytes(2, "little")


class AnswerReader:
    """Reader of a device's answers.

    A header counts with the right magic, header CRC, an opcode of an answer and a length that
    some answer has. In step, anything else is an error. Out of step (at first, and after any
    error) the reader hunts for the next header that counts. It hunts by bytes and not by words:
    a link that lost bytes has lost the words too, and before the first INFO they are not known.

    Members
    -------
    lanes : int or None
        Bytes in a word. None until an INFO has told; until then only INFO and ERROR count.
    """

    def __init__(self, transport: Transport):
        self._transport = transport
        self._window = b""
        self.lanes: int | None = None
        self._in_step = False

    def forget_lanes(self) -> None:
        """Learn the word size anew from the next INFO."""
        self.lanes = None
        self._in_step = False

    async def read(self) -> Answer:
        """Return the next answer.

        Raises :class:`BadAnswer` when it is damaged or a hunt finds none within
        :data:`HUNT_LIMIT` bytes, and whatever the transport raises.
        """
        in_step, self._in_step = self._in_step, False
        header = await (self._next_header() if in_step else self._hunt())
        if self.lanes is None:
            return Answer(header, b"")
        rest = await self._transport.recv(rest_bytes(header, self.lanes))
        whole = answer(header, rest, self.lanes)
        self._in_step = True
        return whole

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
            # Whatever follows the next magic cannot be shorter than a header, so the hunt never
            # waits for a byte too many.
            skipped = _skip(self._window)
            self._window = self._window[skipped:]
            hunted += skipped
        raise BadAnswer(f"no answer in {hunted} bytes")

    async def _look(self) -> Header | None:
        """Header at the current position, taken from the stream if it counts."""
        if len(self._window) < HEADER_BYTES:
            self._window += await self._transport.recv(HEADER_BYTES - len(self._window))
        header = Header.parse(self._window)
        if header is None or not self._counts(header):
            return None
        self._window = b""
        return header

    def _counts(self, header: Header) -> bool:
        if header.length > MAX_LENGTH:
            return False
        if self.lanes is None:
            if header.opcode == Opcode.INFO and header.arg0 in LANE_COUNTS:
                self.lanes = header.arg0
            return self.lanes is not None or header.opcode == Opcode.ERROR
        return header.opcode >= Opcode.INFO


def _skip(window: bytes) -> int:
    """Bytes before the next place in ``window`` where a header may start, at least one."""
    found = window.find(_MAGIC, 1)
    if found > 0:
        return found
    return len(window) - window.endswith(_MAGIC[:1])
