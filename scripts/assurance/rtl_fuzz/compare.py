"""Comparison of the responses of a device with those that the reference model expects."""

from collections import Counter
from collections.abc import Callable, Sequence
from struct import unpack, unpack_from
from zlib import crc32

from tritstream.hw.protocol import HEADER_BYTES, TRAILER_BYTES, Opcode
from tritstream.scripts.assurance.frames import Response, parse_header

__all__ = ["Comparison", "Fault"]


class Fault(Exception):
    """The device did not do what the model requires."""


class Comparison:
    """Compares the bytes of responses with the expected responses.

    Parameters
    ----------
    lanes : int
        Bytes per word of the device.
    clock : callable
        Function that returns the cycles so far.

    Members
    -------
    answers : Counter
        Number of correct responses, by name.
    """

    def __init__(self, lanes: int, clock: Callable[[], int]):
        self.answers: Counter[str] = Counter()
        self._lanes, self._clock = lanes, clock
        self.restart()

    def restart(self) -> None:
        """Note that the device was reset now."""
        self._born   = self._clock()
        self._uptime = 0, 0                 # RESETs so far, and cycles in the last COUNTERS

    def size(self, response: Response) -> int:
        """Return the size of a response on the wire, in bytes."""
        return sum(response.sizes(self._lanes))

    def prefix(self, sent: bytes, expected: Sequence[Response], when: str) -> None:
        """Check what a device had sent when it was interrupted: the first of the responses.

        The last one may be incomplete. Raises :class:`Fault` otherwise; ``when`` ends its text.
        """
        for response in expected:
            if not sent:
                return
            size = self.size(response)
            if len(sent) < size:
                if sent[:HEADER_BYTES] != response.header()[:len(sent)]:
                    raise Fault(f"{sent[:HEADER_BYTES].hex()} in place of {response}, {when}")
                return
            self.compare(sent[:size], response)
            sent = sent[size:]
        if sent:
            raise Fault(f"{len(sent)} bytes where no response is expected, {when}")

    def compare(self, sent: bytes, expected: Response) -> None:
        """Check the bytes of a response; raises :class:`Fault` if one is wrong."""
        start, size, _ = expected.sizes(self._lanes)
        end, trailer = start + expected.length, start + size
        if sent[:HEADER_BYTES] != expected.header():
            raise Fault(f"{_described(sent)} where {expected} is expected")
        if unpack_from("<I", sent, trailer)[0] != crc32(sent[:trailer]):
            raise Fault(f"the trailer of {expected} is wrong")
        if any(sent[HEADER_BYTES:start] + sent[end:trailer] + sent[trailer + TRAILER_BYTES:]):
            raise Fault(f"the padding of {expected} is not zero")
        self._compare_payload(sent[start:end], expected)
        self.answers[expected.name] += 1

    def _compare_payload(self, payload: bytes, expected: Response) -> None:
        if not expected.counts:
            if payload != expected.payload:
                at = next(at for at, pair in enumerate(zip(payload, expected.payload, strict=True))
                          if pair[0] != pair[1])
                raise Fault(f"{expected}: byte {at} of the payload is {payload[at]}, "
                            f"not {expected.payload[at]}")
            return
        numbers = unpack("<4Q", payload)
        if expected.opcode == Opcode.COUNTERS:
            *counts, resets = expected.counts
            least = self._uptime[1] if self._uptime[0] == resets else 0
            correct = (list(numbers[:3]) == counts
                       and least <= numbers[3] <= self._clock() - self._born)
            self._uptime = resets, numbers[3]
        else:
            cycles, *stalls, words = numbers
            correct = words == expected.counts[0] and words + sum(stalls) <= cycles
        if not correct:
            raise Fault(f"{expected}: counts are {numbers}, expected are {expected.counts}")


def _described(sent: bytes) -> str:
    """Return the fields of a response, or its first bytes if they are not a header."""
    header = parse_header(sent)
    if header is None:
        return sent[:HEADER_BYTES].hex()
    return (f"response 0x{header.opcode:02x} of sequence {header.sequence}, arguments "
            f"{header.arg0}, {header.arg1}, {header.length} bytes,")
