"""Requests and their responses, matched by sequence number, with retries."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import cycle, takewhile
from typing import TypeVar

from tritstream.host.errors import BadAnswer, DeviceError, TransportTimeout
from tritstream.host.protocol.answer_reader import AnswerReader
from tritstream.host.protocol.frames import Answer, Header, joined, request, rest_bytes
from tritstream.host.protocol.results import Results
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

#: Errors after which the next attempt may succeed.
_FAILURES = (TransportTimeout, BadAnswer, DeviceError)

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
    """Exchange of requests and responses over a transport.

    Several requests may be under way. A device responds to them in order, so a response to a later
    request than the oldest one means that a response is missing. A response to a request that is
    not under way is discarded. Sequence numbers are used in turn.

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
        #: Numbers of the requests under way, oldest first.
        self._waiting: deque[int] = deque()
        # A number must not be used again while a response to its last request may come. After a
        # failure one request at a time is sent, so the other numbers last for as many attempts.
        self._window = max(1, len(sequences) // 3) if transport.flow_control else 1
        self._unsent: list[bytes | memoryview | Stored] = []
        self._failing = False
        self._discarded = 0
        self.retried = 0
        self.flow_control = transport.flow_control

    @property
    def lanes(self) -> int | None:
        """Bytes per word; None before the first INFO."""
        return self._reader.lanes

    @property
    def room(self) -> int:
        """Requests that may follow those under way. After a failure, one is sent at a time."""
        return (1 if self._failing else self._window) - len(self._waiting)

    def forget_lanes(self) -> None:
        """Forget the word size. The next request must be IDENTIFY, which reports it again."""
        self._reader.forget_lanes()

    async def call(
        self, opcode: Opcode, expected: Opcode, arg0: int = 0, arg1: int = 0,
        payload: bytes | memoryview | Stored = b"",
    ) -> Answer:
        """Send a request and return its only response, whose opcode must be ``expected``."""
        self._waiting.clear()
        self._unsent.clear()
        await self.ask(opcode, arg0, arg1, payload)
        return await self.answer(expected)

    async def ask(
        self, opcode: Opcode, arg0: int, arg1: int, payload: bytes | memoryview | Stored,
        payload_crc: int | None = None,
    ) -> int:
        """Add a request to those to be sent, and return its new sequence number.

        It is sent before a response is awaited, or by :meth:`flush`. A long payload is not copied.
        If there is no room, responses to the oldest requests are awaited first, which must be
        loads. ``payload_crc`` is that of :func:`tritstream.host.protocol.frames.request`.
        """
        while self.room < 1:
            await self.answer(Opcode.ACK)
        sequence = next(self._sequences)
        self._waiting.append(sequence)
        self._discarded = 0
        self._unsent += request(opcode, sequence, arg0, arg1, payload, payload_crc)
        return sequence

    async def flush(self) -> None:
        """Send the requests that were asked, with short buffers joined."""
        buffers, self._unsent = self._unsent, []
        for data in joined(buffers):
            await self._transport.send(data)

    async def confirm(self) -> None:
        """Await the ACKs of all requests under way."""
        while self._waiting:
            await self.answer(Opcode.ACK)

    async def collect(self, sequence: int, results: Results) -> bytes:
        """Add all RESULTs of GEMV ``sequence``, and return the payload of its DONE.

        Only loads may be under way before this GEMV.
        """
        await self.flush()
        loads = list(takewhile(sequence.__ne__, self._waiting))
        while (done := await self._reader.read_all(loads, sequence, results)) is None:
            if loads:
                await self.answer(Opcode.ACK)
                del loads[0]
                continue
            await self._reader.read_results(sequence, results)
            answer = await self.answer(Opcode.RESULT, Opcode.DONE)
            if answer.header.opcode == Opcode.DONE:
                results.close()
                return answer.payload
            results.add(answer)
        for _ in (*loads, sequence):
            self._finish()
        return done

    async def answer(self, *expected: Opcode) -> Answer:
        """Return the next response to the oldest request under way.

        Raises :class:`DeviceError` with the code of an ERROR, :class:`BadAnswer` when the response
        is damaged, missing or its opcode is not in ``expected``, and the errors of the transport.
        """
        await self.flush()
        answer = await self._reader.read()
        while self._is_stale(answer.header):
            self._discard(answer.header)
            answer = await self._reader.read()
        header, oldest = answer.header, self._waiting[0]
        if header.sequence in self._waiting and header.sequence != oldest:
            raise BadAnswer(f"answer to request {header.sequence} where one to request {oldest} "
                            "is expected")
        if header.opcode == Opcode.ERROR:
            if header.sequence == oldest:
                self._finish()
            raise _refusal(header)
        if header.opcode not in expected:
            names = " or ".join(opcode.name for opcode in expected)
            raise BadAnswer(f"answer 0x{header.opcode:02x} where {names} is expected")
        if header.opcode != Opcode.RESULT:
            self._finish()
        return answer

    def _finish(self) -> None:
        """Note that the oldest request has its last response."""
        self._waiting.popleft()
        self._discarded = 0

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
                result = await attempt()
            except BaseException as error:
                behind = len(self._waiting) - (not _is_last(error))
                self._waiting.clear()
                self._unsent.clear()
                self._failing = True
                forget()
                if not isinstance(error, _FAILURES) or (
                        isinstance(error, DeviceError) and error.code not in _RETRIED):
                    raise
                failures.append(f"{len(failures) + 1}: {error}")
                await self._settle(error, behind)
            else:
                self._failing = False
                return result
        tries = "1 try" if len(failures) == 1 else f"{len(failures)} tries"
        raise DeviceError(f"gave up after {tries} ({'; '.join(failures)})")

    async def _settle(self, error: Exception, behind: int) -> None:
        """Wait until responses to abandoned requests can disturb no longer.

        ``behind`` is the number of requests that were under way behind the one that failed.

        Without flow control bytes may be lost, so both ends must be between frames again: wait for
        silence. Otherwise the responses come before that to a STATUS.
        """
        if isinstance(error, TransportTimeout):
            return
        if not self.flow_control:
            await self._wait_for_silence()
        elif behind > 0:
            await self._drain(behind + 1)

    async def _wait_for_silence(self) -> None:
        self._reader.discard()
        with suppress(TransportTimeout):
            for _ in range(_SETTLE_LIMIT):
                await self._transport.recv(1)

    async def _drain(self, abandoned: int) -> None:
        """Discard responses up to the one to a STATUS, damaged ones too."""
        await self.ask(Opcode.STATUS, 0, 0, b"")
        with suppress(TransportTimeout):
            for _ in range(2 * abandoned):
                try:
                    await self.answer(Opcode.COUNTERS)
                    break
                except (BadAnswer, DeviceError):
                    continue
        self._waiting.clear()

    def _is_stale(self, header: Header) -> bool:
        if header.opcode == Opcode.ERROR and header.arg0 == ErrorCode.NO_HEADER:
            return False
        return header.sequence not in self._waiting

    def _discard(self, header: Header) -> None:
        self._discarded += HEADER_BYTES + rest_bytes(header, self.lanes or 1)
        if self._discarded > DISCARD_LIMIT:
            raise BadAnswer(f"{self._discarded} bytes of answers to older requests")


def _is_last(error: BaseException) -> bool:
    """Return whether an error is the last response to its request."""
    return isinstance(error, DeviceError) and error.code not in (None, ErrorCode.NO_HEADER)


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
