"""A session with a device: steps fed to it and to the model, and the answers of both compared."""

from collections import Counter, deque
from dataclasses import dataclass, field
from struct import unpack, unpack_from
from zlib import crc32

import numpy as np

from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import HEADER_BYTES, TRAILER_BYTES, Opcode
from tritstream.scripts.assurance.rtl_fuzz.due import Due, told
from tritstream.scripts.assurance.rtl_fuzz.elements import Step, elements
from tritstream.scripts.assurance.rtl_fuzz.frames import padded
from tritstream.scripts.assurance.rtl_fuzz.model import Model
from tritstream.sim.native import NativeDevice, SimulationIdle

__all__ = ["Fault", "Session", "Tally", "run_session"]

#: Elements of a session.
ELEMENTS = 40
#: Cycles in which a device that owes nothing must say nothing.
_QUIET = 200


class Fault(Exception):
    """The device did not do what the model says it must."""


@dataclass
class Tally:
    """What sessions did, in numbers."""

    sessions:  int = 0
    cycles:    int = 0
    words_in:  int = 0
    words_out: int = 0
    elements:  Counter = field(default_factory=Counter)
    answers:   Counter = field(default_factory=Counter)


class Session:
    """One device from its reset on, and the model beside it.

    Parameters
    ----------
    device : NativeDevice
        Just made.
    config : DeviceConfig

    Members
    -------
    model : Model
    steps : list
        Steps taken so far.
    answers : Counter
        Answers that were right, by name.
    """

    def __init__(self, device: NativeDevice, config: DeviceConfig):
        self.model, self.steps, self.answers = Model(config), [], Counter()
        self._device, self._lanes = device, config.lanes
        self._due: deque[Due] = deque()
        self._shares = 0.0, 0.0
        self._born = self._since = 0       # cycles: of the last reset, and of the last check
        self._words = 0
        self._waited = 0
        self._uptime = 0, 0                 # RESETs so far, and what COUNTERS last told

    def take(self, step: Step) -> None:
        """Take a step; raises :class:`Fault` when an answer, or its time, is wrong."""
        self.steps.append(step)
        what, *values = step
        try:
            getattr(self, f"_{what}")(*values)
        except SimulationIdle as error:
            raise Fault(str(error)) from error

    def _push(self, data: bytes) -> None:
        self._device.push(data)
        self._due += self.model.feed(data)

    def _stall(self, seed: int, source: float, sink: float) -> None:
        self._check()
        self._device.stall(seed, source, sink)
        self._shares = source, sink

    def _wait(self, cycles: int) -> None:
        """Nothing comes for so many cycles, or until so many words were answered."""
        self._device.idle(cycles)
        self._waited += cycles

    def _abandon(self) -> None:
        self._device.abandon()
        self._due += self.model.abandon()
        self._check()

    def _reset(self) -> None:
        """The pin; what the device has said before is the begin of what was due."""
        said = self._device.ready()
        due = [*self._due, *self.model.results()]
        while said:
            if not due:
                raise Fault(f"{len(said)} bytes before a reset that nothing asked for")
            size = self._size(due[0])
            if len(said) < size:
                if said[:HEADER_BYTES] != due[0].header()[:len(said)]:
                    raise Fault(f"before a reset, {said[:HEADER_BYTES].hex()} in place of "
                                f"{due[0]}")
                break
            self._compare(said[:size], due.pop(0))
            said = said[size:]
        self._device.reset()
        self.model.restart()
        self._due.clear()
        self._born = self._device.cycles
        self._uptime = 0, 0
        self._begin_count()

    def _check(self) -> None:
        """All that is due must come, in time and right, and nothing else."""
        due, sizes = list(self._due), [self._size(one) for one in self._due]
        self._due.clear()
        said = self._device.pull(sum(sizes))
        for one, size in zip(due, sizes, strict=True):
            self._compare(said[:size], one)
            said = said[size:]
        self._in_time(len(due))
        if not self.model.results():
            self._device.idle(_QUIET)
            if more := self._device.ready():
                raise Fault(f"{more[:HEADER_BYTES].hex()} where nothing is due")
        self._begin_count()

    def _begin_count(self):
        self._since, self._waited = self._device.cycles, 0
        self._words = self._device.words_in + self._device.words_out

    def _in_time(self, frames: int) -> None:
        """A word takes four cycles at most, an answer some hundreds: more is a hang."""
        pace = (1 - self._shares[0]) * (1 - self._shares[1])
        words = self._device.words_in + self._device.words_out - self._words
        limit = self._waited + (4 * words + 600 * (frames + 1)) / pace
        took = self._device.cycles - self._since
        if took > limit:
            raise Fault(f"{took} cycles for {words} words and {frames} answers")

    def _size(self, due: Due) -> int:
        return sum(-(-part // self._lanes) * self._lanes
                   for part in (HEADER_BYTES, due.length, TRAILER_BYTES))

    def _compare(self, said: bytes, due: Due) -> None:
        head = len(padded(bytes(HEADER_BYTES), self._lanes))
        tail = len(said) - len(padded(bytes(TRAILER_BYTES), self._lanes))
        if said[:HEADER_BYTES] != due.header():
            raise Fault(f"{told(said)} where {due} is due")
        if unpack_from("<I", said, tail)[0] != crc32(said[:tail]):
            raise Fault(f"the trailer of {due} is wrong")
        payload = said[head:head + due.length]
        if any(said[HEADER_BYTES:head] + said[head + due.length:tail]
               + said[tail + TRAILER_BYTES:]):
            raise Fault(f"the padding of {due} is not zero")
        self._compare_payload(payload, due)
        self.answers[due.name] += 1

    def _compare_payload(self, payload: bytes, due: Due) -> None:
        if not due.counts:
            if payload != due.payload:
                place = next(at for at, pair in enumerate(zip(payload, due.payload, strict=True))
                             if pair[0] != pair[1])
                raise Fault(f"{due}: byte {place} of the payload is {payload[place]}, "
                            f"not {due.payload[place]}")
            return
        numbers = unpack("<4Q", payload)
        if due.opcode == Opcode.COUNTERS:
            *counts, resets = due.counts
            least = self._uptime[1] if self._uptime[0] == resets else 0
            right = (list(numbers[:3]) == counts
                     and least <= numbers[3] <= self._device.cycles - self._born)
            self._uptime = resets, numbers[3]
        else:
            cycles, *stalls, words = numbers
            right = words == due.counts[0] and words + sum(stalls) <= cycles
        if not right:
            raise Fault(f"{due}: counts are {numbers}, due are {due.counts}")


def run_session(
    library, config: DeviceConfig, seed: int, number: int, tally: Tally, device_type=NativeDevice,
) -> tuple[Session, str | None]:
    """Run session ``number`` of a seed on a new device; what it was, and its fault, if any."""
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
