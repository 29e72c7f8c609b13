"""A session: the same steps for a device and for the model, and their responses compared."""

from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import HEADER_BYTES
from tritstream.scripts.assurance.device_model import DeviceModel
from tritstream.scripts.assurance.frames import Response
from tritstream.scripts.assurance.rtl_fuzz.compare import Comparison, Fault
from tritstream.scripts.assurance.rtl_fuzz.elements import Step, elements
from tritstream.sim.native import NativeDevice, SimulationIdle

__all__ = ["Session", "Tally", "run_session"]

#: Number of elements in a session.
ELEMENTS = 40
#: Cycles in which a device without a pending response must send nothing.
_QUIET = 200


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
    """

    def __init__(self, device: NativeDevice, config: DeviceConfig):
        self.model = DeviceModel(config)
        self.steps: list[Step] = []
        self._device = device
        self._comparison = Comparison(config.lanes, lambda: device.cycles)
        self._expected: deque[Response] = deque()
        self._shares = 0.0, 0.0
        self._since = 0                     # cycle of the last check
        self._words = 0
        self._waited = 0

    @property
    def answers(self) -> Counter[str]:
        """Number of correct responses, by name."""
        return self._comparison.answers

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
        self._comparison.prefix(self._device.ready(), [*self._expected, *self.model.results()],
                                "before a reset")
        self._device.reset()
        self.model.restart()
        self._expected.clear()
        self._comparison.restart()
        self._start_count()

    def _check(self) -> None:
        """Receive all expected responses, and nothing else, in time."""
        expected = list(self._expected)
        self._expected.clear()
        sent = self._device.pull(sum(map(self._comparison.size, expected)))
        for response in expected:
            size = self._comparison.size(response)
            self._comparison.compare(sent[:size], response)
            sent = sent[size:]
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
