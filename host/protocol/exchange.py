"""Requests and their responses, matched by sequence number, with retries."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import cycle
from typing import TypeVar

from tritstream.host.errors import BadAnswer, DeviceError, TransportTimeout
from tritstream.host.protocol.answer_reader import AnswerReader
from tritstream.host.protocol.frames import Answer, Header, request, rest_bytes
from tritstream.host.transports.base import Stored, Transport
from tritstream.hw.protocol import HEADER_BYTES, ErrorCode, Opcode

__all__ = ["DISCARD_LIMIT", "SEQUENCES", "Exchange"]

#: Sequence numbers of requests. 0 is reserved for responses to no request.
SEQUENCES = range(1, 256)

#: Bytes of responses to older requests that one request discards before it fails.
DISCARD_LIMIT = 1 << 24

#: Bytes, received one at a time, after which a line that never falls silent is used anyway.
_SETTLE_LIMIT = 1 << 24

_T = TypeVar("_T")

_RETRIED = (ErrorCode.NO_HEADER, ErrorCode.TRAILER, ErrorCode.NOT_LOADED)

_ADVICE = {
    ErrorCode.NO_HEADER:  "the header was damaged on its way; check the link",
    ErrorCode.OPCODE:     "the device does not know this request; driver and gateware must be of "
                          "the same version",
    ErrorCode.LENGTH:     "payload and arguments disagree; prepare the matrix for this device and, "
                          "if that does not help, report a bug of the driver",
    ErrorCode.DEPTH:      "the device takes depths 1 to 4; check the depth of the matrix",
    ErrorCode.SIZE:       "a size is zero or more than the device was built for; identify it again "
                          "and prepare the matrix for it",
    ErrorCode.TRAILER:    "the frame was damaged on its way; check the link",
    ErrorCode.NOT_LOADED: "activations or scales are not loaded; the device may have been reset",
}


class Exchange:
    """Exchange of one request at a time over a transport.

    Sequence numbers are used in turn. A response whose number is not that of the last request is
    discarded.

    Parameters
    ----------
    transport : Transport
        Carries the bytes; closed by its owner.
    retries : int
        Further attempts after one that failed.
    sequences : sequence of int
        Sequence numbers to use, a subset of :data:`SEQUENCES`.

    Members
    -------
    retried : int
        Retries so far.
    flow_control : bool
        Whether the device can hold the driver back: :class:`.Transport`.
    """

    def __init__(self, transport: Transport, retries: int, sequences: Sequence[int] = SEQUENCES):
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries must be a non-negative integer, not {retries!r}")
        self._transport = transport
        self._reader = AnswerReader(transport)
        self._retries = retries
        self._sequences = cycle(sequences)
        self._sequence = 0
        self._discarded = 0
        self.retried = 0
        self.flow_control = transport.flow_control

    @property
    def lanes(self) -> int | None:
        """Bytes per word; None before the first INFO."""
        return self._reader.lanes

    def forget_lanes(self) -> None:
        """Forget the word size. The next request must be IDENTIFY, which reports it again."""
        self._reader.forget_lanes()

    async def call(
        self, opcode: Opcode, expected: Opcode, arg0: int = 0, arg1: int = 0,
        payload: bytes | memoryview | Stored = b"",
    ) -> Answer:
        """Send a request and return its only response, whose opcode must be ``expected``."""
        await self.ask(opcode, arg0, arg1, payload)
        return await self.answer(expected)

    async def ask(
        self, opcode: Opcode, arg0: int, arg1: int, payload: bytes | memoryview | Stored
    ) -> None:
        """Send a request with a new sequence number; ``payload`` is not copied."""
        self._sequence = next(self._sequences)
        self._discarded = 0
        for data in request(opcode, self._sequence, arg0, arg1, payload):
            await self._transport.send(data)

    async def answer(self, *expected: Opcode) -> Answer:
        """Return the next response to the last request.

        Raises :class:`DeviceError` with the code of an ERROR, :class:`BadAnswer` when the response
        is damaged or its opcode is not in ``expected``, and the errors of the transport.
        """
        answer = await self._reader.read()
        while self._is_stale(answer.header):
            self._discard(answer.header)
            answer = await self._reader.read()
        if answer.header.opcode == Opcode.ERROR:
            raise _refusal(answer.header)
        if answer.header.opcode not in expected:
            names = " or ".join(opcode.name for opcode in expected)
            raise BadAnswer(f"answer 0x{answer.header.opcode:02x} where {names} is expected")
        return answer

    async def persist(
        self, attempt: Callable[[], Awaitable[_T]], forget: Callable[[], None]
    ) -> _T:
        """Await ``attempt()`` until it succeeds; call ``forget()`` after each failure.

        The attempt is repeated after silence, after a damaged response, and after an ERROR that
        says that the request was damaged or that the device has lost what it held. Other errors
        are raised at once.

        Raises :class:`DeviceError` that lists the failures when every attempt failed.
        """
        failures: list[str] = []
        while len(failures) <= self._retries:
            self.retried += bool(failures)
            try:
                return await attempt()
            except (TransportTimeout, BadAnswer, DeviceError) as error:
                forget()
                if isinstance(error, DeviceError) and error.code not in _RETRIED:
                    raise
                failures.append(f"{len(failures) + 1}: {error}")
                await self._settle(error)
        tries = "1 try" if len(failures) == 1 else f"{len(failures)} tries"
        raise DeviceError(f"gave up after {tries} ({'; '.join(failures)})")

    async def _settle(self, error: Exception) -> None:
        """Wait for silence if bytes may be lost, so that both ends are between frames again."""
        if self.flow_control or isinstance(error, TransportTimeout):
            return
        with suppress(TransportTimeout):
            for _ in range(_SETTLE_LIMIT):
                await self._transport.recv(1)

    def _is_stale(self, header: Header) -> bool:
        if header.opcode == Opcode.ERROR and header.arg0 == ErrorCode.NO_HEADER:
            return False
        return header.sequence != self._sequence

    def _discard(self, header: Header) -> None:
        self._discarded += HEADER_BYTES + rest_bytes(header, self.lanes or 1)
        if self._discarded > DISCARD_LIMIT:
            raise BadAnswer(f"{self._discarded} bytes of answers to older requests")


def _refusal(header: Header) -> DeviceError:
    """Return the error that an ERROR response reports; its arg1 is the refused opcode."""
    try:
        code = ErrorCode(header.arg0)
    except ValueError:
        return DeviceError(f"device answered with unknown error {header.arg0}", header.arg0)
    refused = next((op.name for op in Opcode if op == header.arg1), f"opcode 0x{header.arg1:02x}")
    subject = "" if code is ErrorCode.NO_HEADER else f" {refused}"
    return DeviceError(f"device refused{subject} with error {code} {code.name}: {_ADVICE[code]}",
                       code)
