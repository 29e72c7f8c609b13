"""A session: the same steps for a device and for the model, and their responses compared."""

from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from struct import unpack, unpack_from
from zlib import crc32

import numpy as np

from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import HEADER_BYTES, TRAILER_BYTES, Opcode
from tritstream.scripts.assurance.device_model import DeviceModel
from tritstream.scripts.assurance.frames import Response, parse_header
from tritstream.scripts.assurance.rtl_fuzz.elements import Step, elements
from tritstream.sim.native import NativeDevice, SimulationIdle

__all__ = ["Fault", "Session", "Tally", "run_session"]

#: Number of elements in a session.
ELEMENTS = 40
#: Cycles in which a device without a pending response must send nothing.
_QUIET = 200


class Fault(Exception):
    """The device did not do what the model requires."""


@dataclass
class Tally:
    """Counts over all sessions."""

    sessions:  int = 0
    cycles:    int = 0
    words_in:  int = 0
    words_out: int = 0
    elements:  Counter[str] = field(default_factory=Counter)
    answers:   Counter[str] = field(default_factory=Counter)


class Session:
    """A device and its model since the last reset of the device.

    Parameters
    ----------
    device : NativeDevice
        New simulated device.
    config : DeviceConfig
        Build parameters of the device.

    Members
    -------
    model : DeviceModel
        Reference for all responses.
    steps : list
        Steps taken so far.
    answers : Counter
        Number of correct responses, by name.
    """

    def __init__(self, device: NativeDevice, config: DeviceConfig):
        self.model = DeviceModel(config)
        self.steps: list[Step] = []
        self.answers: Counter[str] = Counter()
        self._device, self._lanes = device, config.lanes
        self._expected: deque[Response] = deque()
        self._shares = 0.0, 0.0
        self._born = self._since = 0        # cycle of the last reset, and of the last check
        self._words = 0
        self._waited = 0
        self._uptime = 0, 0                 # RESETs so far, and cycles in the last COUNTERS

    def take(self, step: Step) -> None:
        """Take a step; raises :class:`Fault` if a response is wrong or late."""
        self.steps.append(step)
        what, *values = step
        try:
            getattr(self, f"_{what}")(*values)
        except SimulationIdle as error:
            raise Fault(str(error)) from error

    def _push(self, data: bytes) -> None:
        self._device.push(data)
        self._expected += self.model.feed(data)

    def _stall(self, seed: int, source: float, sink: float) -> None:
        self._check()
        self._device.stall(seed, source, sink)
        self._shares = source, sink

    def _wait(self, cycles: int) -> None:
        """Send nothing for so many cycles."""
        self._device.idle(cycles)
        self._waited += cycles

    def _abandon(self) -> None:
        self._device.abandon()
        self._expected += self.model.abandon()
        self._check()

    def _reset(self) -> None:
        """Reset by the pin; what the device has sent before is a prefix of what is expected."""
        sent = self._device.ready()
        expected = [*self._expected, *self.model.results()]
        while sent:
            if not expected:
                raise Fault(f"{len(sent)} bytes before a reset, where no response is expected")
            size = self._size(expected[0])
            if len(sent) < size:
                if sent[:HEADER_BYTES] != expected[0].header()[:len(sent)]:
                    raise Fault(f"before a reset, {sent[:HEADER_BYTES].hex()} in place of "
                                f"{expected[0]}")
                break
            self._compare(sent[:size], expected.pop(0))
            sent = sent[size:]
        self._device.reset()
        self.model.restart()
        self._expected.clear()
        self._born = self._device.cycles
        self._uptime = 0, 0
        self._start_count()

    def _check(self) -> None:
        """Receive all expected responses, and nothing else, in time."""
        expected = list(self._expected)
        self._expected.clear()
        sent = self._device.pull(sum(map(self._size, expected)))
        for response in expected:
            self._compare(sent[:self._size(response)], response)
            sent = sent[self._size(response):]
        self._in_time(len(expected))
        if not self.model.results():
            self._device.idle(_QUIET)
            if more := self._device.ready():
                raise Fault(f"{more[:HEADER_BYTES].hex()} where nothing is expected")
        self._start_count()

    def _start_count(self) -> None:
        self._since, self._waited = self._device.cycles, 0
        self._words = self._device.words_in + self._device.words_out

    def _in_time(self, frames: int) -> None:
        """Raise for a hang: a word takes at most four cycles, a response some hundreds."""
        pace = (1 - self._shares[0]) * (1 - self._shares[1])
        words = self._device.words_in + self._device.words_out - self._words
        limit = self._waited + (4 * words + 600 * (frames + 1)) / pace
        took = self._device.cycles - self._since
        if took > limit:
            raise Fault(f"{took} cycles for {words} words and {frames} responses")

    def _size(self, response: Response) -> int:
        return sum(response.sizes(self._lanes))

    def _compare(self, sent: bytes, expected: Response) -> None:
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
                       and least <= numbers[3] <= self._device.cycles - self._born)
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


def run_session(
    library: Path, config: DeviceConfig, seed: int, number: int, tally: Tally,
    device_type: type[NativeDevice] = NativeDevice,
) -> tuple[Session, str | None]:
    """Run session ``number`` of a seed on a new device, add it to ``tally``.

    Returns the session and its fault, or None.
    """
    rng = np.random.default_rng([seed, number, config.lanes, config.columns, config.max_k])
    with device_type(library) as device:
        session, fault = Session(device, config), None
        try:
            for kind, steps in elements(config, rng, session.model, ELEMENTS):
                if kind != "check":
                    tally.elements[kind] += 1
                for step in steps:
                    session.take(step)
        except Fault as error:
            fault = str(error)
        tally.sessions += 1
        tally.cycles += device.cycles
        tally.words_in += device.words_in
        tally.words_out += device.words_out
        tally.answers += session.answers
    return session, fault
