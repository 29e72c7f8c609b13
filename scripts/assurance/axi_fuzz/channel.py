"""A channel of the core with the model of its engine: what it takes, and what it must write."""

from collections import deque

import numpy as np

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.registers import Error, Refusal, Status, register
from tritstream.hw.soc.registers import DESCRIPTORS, UNIT
from tritstream.scripts.assurance.device_model import DeviceModel
from tritstream.scripts.assurance.frames import Response, padded
from tritstream.scripts.assurance.rtl_fuzz.compare import Comparison, Fault
from tritstream.sim.axi_channel import ChannelHalted, SimulatedChannel
from tritstream.sim.axi_core import SimulatedCore
from tritstream.sim.axi_timing import Timing

__all__ = ["FuzzedChannel"]

#: Cycles without a response or the end of a descriptor after which a channel hangs, and what each
#: byte that it was given adds. All memories are faster: the slowest moves 2 bytes per cycle in a
#: tenth of the cycles, is closed in 200 of 700, and has gaps and late bursts.
_HANG, _BYTE = 60_000, 10
#: Cycles in which a channel without pending responses must write nothing.
_QUIET = 300
_SLVERR = {Error.READ_SLVERR, Error.WRITE_SLVERR}
_DECERR = {Error.READ_DECERR, Error.WRITE_DECERR}


class FuzzedChannel:
    """A channel and its model since the last restart.

    All methods raise :class:`.Fault` if the channel deviates from docs/axi.md or docs/protocol.md.

    Parameters
    ----------
    core : SimulatedCore
    channel : SimulatedChannel
        Channel whose memory and ring are set up.
    config : AxiConfig
        Build parameters.
    rng : numpy.random.Generator
        Source of random choices.

    Members
    -------
    model : DeviceModel
        Reference for all responses.
    software : SimulatedChannel
        The argument ``channel``.
    comparison : Comparison
        Correct responses so far.
    outside : bool
        The registers lead outside the memory, from the next session on.
    """

    def __init__(self, core: SimulatedCore, channel: SimulatedChannel, config: AxiConfig,
                 rng: np.random.Generator):
        self.model, self.software = DeviceModel(config.device), channel
        self.comparison = Comparison(config.lanes, lambda: core.cycles)
        self.outside = False
        self._allowed: set[Error] = set()       # in this session
        self._timing = Timing()
        self._core, self._number, self._rng = core, channel.number, rng
        self._expected: deque[Response] = deque()
        self._got = bytearray()
        self._free, self._limit = 0, _HANG
        self._errors = 0        # of the memory, before this session
        self.restart()

    def set_timing(self, timing: Timing) -> None:
        """Change how the memory behaves."""
        self._timing = timing
        self._core.set_timing(self._number, timing, int(self._rng.integers(1 << 32)))
        self._allow_errors()

    def _allow_errors(self) -> None:
        outside = self.outside or self._timing.decerr
        self._allowed |= (_SLVERR if self._timing.slverr else set()) | (
            _DECERR if outside else set())

    def push(self, data: bytes) -> None:
        """Put requests into the memory, and give them as random segments."""
        data = padded(data, UNIT)
        if self._free + len(data) > self.software.window.size:
            self.check()
            self._free = 0
        place, self._free = self._free, self._free + len(data)
        self.software.data[place:place + len(data)] = np.frombuffer(data, np.uint8)
        self._expected += self.model.feed(data)
        self._limit += _BYTE * len(data)
        units = len(data) // UNIT
        cuts = np.unique(self._rng.integers(0, units + 1, int(self._rng.integers(0, 4))))
        for part in np.split(np.arange(units), cuts):
            if len(part) and not self._give(place + UNIT * int(part[0]), UNIT * len(part)):
                return

    def _give(self, address: int, size: int) -> bool:
        """Give a descriptor; return whether it was taken. A halted channel takes none."""
        while True:
            waiting = self._get("tail") - self._get("head") & 0xFFFFFFFF
            refused = self.software.push(address, size)
            match refused:
                case Refusal.NONE:
                    if self._rng.random() < 0.2:
                        self.expect(Refusal.INDEX, index=-1)
                    return True
                case Refusal.FULL if waiting >= DESCRIPTORS:
                    self.pull()
                    self._core.run(500)
                case Refusal.STOPPED if self._get("error"):
                    return False
                case _:
                    raise self._fault(f"refused a good descriptor: {refused.name}, "
                                      f"{waiting} waited")

    def expect(self, *reasons: Refusal, index: int = 0) -> None:
        """Write ``tail + index`` to index; the descriptor must be refused for one of the reasons.

        A channel that has halted refuses everything as STOPPED.
        """
        tail, expected = self._get("tail"), " or ".join(reason.name for reason in reasons)
        self.software.put("index", tail + index)
        refused, error = self._get("refused"), self._get("error")
        if self._get("tail") != tail:
            raise self._fault(f"took a descriptor, where {expected} is expected")
        if refused not in reasons and not (refused == Refusal.STOPPED and error):
            raise self._fault(f"refused by {refused}, where {expected} is expected")

    def pull(self) -> None:
        """Read the responses that have been written."""
        written, taken = self._get("written"), self._get("taken")
        if (written - taken & 0xFFFFFFFF) * self.software.align > self.software.window.ring:
            raise self._fault(f"overran its ring: written {written}, taken {taken}")
        self._got += self.software.pull()

    def check(self) -> None:
        """Receive all expected responses and no others, unless an error of the memory halts."""
        wanted = sum(map(self.comparison.size, self._expected))
        self._finish(wanted)
        if self._get("error"):
            self._end_halted()
            return
        for response in self._expected:
            size = self.comparison.size(response)
            self.comparison.compare(bytes(self._got[:size]), response)
            del self._got[:size]
        self._expected.clear()
        self._core.run(_QUIET)
        self.pull()
        if self._got and not self.model.results() and not self._get("error"):
            raise self._fault(f"wrote {self._got[:20].hex()} where nothing is expected")
        self._free = UNIT * int(self._rng.integers(0, 64))
        self._limit = _HANG

    def _finish(self, wanted: int) -> None:
        """Run until the responses are here and all descriptors are used, or the channel halts."""
        before, since = (-1, -1), self._core.cycles
        interrupts = self._rng.random() < 0.5
        while not self._get("error"):
            self.pull()
            done = len(self._got) >= wanted and self._get("head") == self._get("tail")
            if done and self._core.errors(self._number) == self._errors:
                return
            state = len(self._got), self._get("head")
            if state != before:
                before, since = state, self._core.cycles
            if self._core.cycles > since + self._limit:
                raise self._fault(
                    "ignored an error of the memory" if done else
                    f"hangs: {len(self._got)} of {wanted} bytes of responses, status "
                    f"{self._get('status')}, head {self._get('head')}, tail {self._get('tail')}")
            self._wait(interrupts)

    def _wait(self, interrupts: bool) -> None:
        """Let time pass, until more is written if ``interrupts``."""
        if not interrupts:
            self._core.run(int(self._rng.integers(1, 400)))
            return
        self.software.put("wake", self.software.seen + 1)
        self.software.put("enable", Status.REACHED | Status.ERROR)
        self._core.wait(2000)
        # A state that begins between two accesses is seen by the second only.
        states = [(self._requested(), self._get("written") != self.software.seen,
                   self._get("error")) for _ in range(2)]
        if not states[1][0] and (states[0][1] or states[0][2]):
            raise self._fault("has lost an interrupt")
        if states[0][0] and not (states[1][1] or states[1][2]):
            raise self._fault("requests an interrupt without a cause")
        self.software.put("enable", 0)

    def _requested(self) -> int:
        """Return whether the channel requests an interrupt."""
        return self._core.read(register("pending")) >> self._number & 1

    def _end_halted(self) -> None:
        """Check a channel that has halted, and begin a session."""
        error = self._get("error")
        if error not in self._allowed or self._core.errors(self._number) == self._errors:
            raise self._fault(f"halted by error {error}, which no memory gave")
        self._core.run(_QUIET)
        if self._get("status") & (Status.READY | Status.ERROR) != Status.ERROR:
            raise self._fault(f"has status {self._get('status')} after an error")
        self.expect(Refusal.STOPPED)
        if self._get("error") != error:
            raise self._fault(f"changed its error from {error} to {self._get('error')}")
        self.restart("after an error")

    def restart(self, when: str = "before a restart") -> None:
        """Begin a session; what was written before is the first of what was expected."""
        self.interrupted(when)
        session = self._get("session")
        for wrong in (session, session + 2, int(self._rng.integers(1 << 32))):
            if wrong & 0xFFFFFFFF != session + 1:
                self.software.put("restart", wrong)
        if self._get("session") != session:
            raise self._fault("began a session by a wrong number")
        self.begin()

    def interrupted(self, when: str) -> None:
        """Check what was written until now."""
        self.pull()
        self.comparison.prefix(bytes(self._got), [*self._expected, *self.model.results()], when)

    def begin(self) -> None:
        """Begin a session whose registers are set up."""
        try:
            self.software.restart(self._limit)
        except ChannelHalted as error:
            raise self._fault(str(error)) from error
        if self._get("head") != self._get("tail") or self._get("taken") != self._get("written"):
            raise self._fault("did not drop everything at a restart")
        if self._get("error"):
            raise self._fault(f"begins a session with error {self._get('error')}")
        self.model.restart()
        self.comparison.restart()
        self._expected.clear()
        self._got.clear()
        self._allowed.clear()
        self._allow_errors()
        self._free, self._limit = 0, _HANG
        self._errors = self._core.errors(self._number)

    def _get(self, name: str) -> int:
        return self.software.get(name)

    def _fault(self, what: str) -> Fault:
        return Fault(f"channel {self._number} {what}")
