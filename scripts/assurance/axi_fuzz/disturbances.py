"""What happens to a channel besides requests: errors, pauses, restarts and nonsense."""

import numpy as np

from tritstream.hw.axi.registers import BANK, Error, Refusal, register
from tritstream.hw.protocol import Opcode
from tritstream.hw.soc.registers import UNIT
from tritstream.scripts.assurance.axi_fuzz.channel import FuzzedChannel
from tritstream.scripts.assurance.frames import Response, frame
from tritstream.scripts.assurance.rtl_fuzz.compare import Fault
from tritstream.sim.axi_core import RegisterRefused, SimulatedCore
from tritstream.sim.axi_timing import Timing

__all__ = ["Disturbances", "random_timing"]

#: Shares of cycles in which a channel of AXI4 pauses.
_SHARES = (0.0, 0.0, 0.0, 0.2, 0.5, 0.9)


def random_timing(rng: np.random.Generator) -> Timing:
    """Return a memory without errors: fast or slow, with late bursts, pauses and rows."""
    def stall() -> float:
        return float(rng.choice(_SHARES))
    return Timing(
        latency=int(rng.choice([1, 2, 30, 300])), rate=float(rng.choice([2.0, 5.0, 64.0])),
        refresh_every=int(rng.choice([0, 700])), refresh=int(rng.integers(1, 200)),
        gaps=float(rng.choice([0.0, 0.05])), banks=int(rng.choice([1, 4])), row=512,
        miss=int(rng.choice([0, 20])), turn=int(rng.choice([0, 6])),
        outstanding=int(rng.choice([1, 4, 64])), stall_ar=stall(), stall_r=stall(),
        stall_aw=stall(), stall_w=stall(), stall_b=stall(),
        late=float(rng.choice([0.0, 0.1])), latest=int(rng.choice([10, 3000])))


class Disturbances:
    """Makers of disturbances; a report names a disturbance after its method.

    Parameters
    ----------
    core : SimulatedCore
    channels : list of FuzzedChannel
        All channels of the core.
    rng : numpy.random.Generator
        Source of random choices.
    """

    def __init__(self, core: SimulatedCore, channels: list[FuzzedChannel],
                 rng: np.random.Generator):
        self._core, self._channels, self._rng = core, channels, rng

    def other_memory(self, channel: FuzzedChannel) -> None:
        channel.set_timing(random_timing(self._rng))

    def errors_of_memory(self, channel: FuzzedChannel) -> None:
        """Errors of a kind, seldom or often, until another memory comes."""
        kind = str(self._rng.choice(["slverr", "decerr"]))
        share = float(self._rng.choice([0.003, 0.03, 0.3]))
        channel.set_timing(Timing(**vars(random_timing(self._rng)) | {kind: share}))

    def memory_stands_still(self, channel: FuzzedChannel) -> None:
        self._core.hold(channel.software.number, int(self._rng.integers(1, 5000)))

    def restart(self, channel: FuzzedChannel) -> None:
        channel.restart()

    def restart_in_a_burst(self, channel: FuzzedChannel) -> None:
        """Restart at a random cycle of requests that are on their way."""
        channel.push(self._identify(int(self._rng.integers(1, 60))))
        self._core.run(int(self._rng.integers(1, 600)))
        channel.restart()

    def reset(self, _: FuzzedChannel) -> None:
        """Reset of the core and all memories."""
        for each in self._channels:
            each.interrupted("before a reset")
        self._core.reset()
        for each in self._channels:
            for name in ("session", "tail", "head", "written", "taken", "error"):
                if each.software.get(name):
                    raise Fault(f"{name} is {each.software.get(name)} after a reset")
            each.software.seen = 0
            each.software.setup()
            each.begin()

    def impossible_sizes(self, channel: FuzzedChannel) -> None:
        """Session without memory, or with a ring that is no power of two."""
        name, value = [("memory", 0), ("ring", 0), ("ring", 2048), ("ring", 3 * 4096),
                       ("ring", 4097)][self._rng.integers(5)]
        channel.interrupted("before a restart")
        channel.software.put(name, value)
        channel.software.restart()
        if (error := channel.software.get("error")) != Error.SIZES:
            raise Fault(f"error {error} for {name} = {value}")
        channel.expect(Refusal.STOPPED)
        channel.software.setup()
        channel.begin()

    def memory_elsewhere(self, channel: FuzzedChannel) -> None:
        """Session whose requests or whose ring are at addresses without memory.

        Words that are read may come with another error than the writes of the ring.
        """
        errors = {"slverr": float(self._rng.choice([0.0, 0.1]))}
        channel.set_timing(Timing(**vars(random_timing(self._rng)) | errors))
        channel.interrupted("before a restart")
        channel.software.put(str(self._rng.choice(["base_high", "ring_high"])), 0x7FFF_0000)
        channel.outside = True
        channel.begin()
        channel.push(self._identify(int(self._rng.integers(1, 60))))
        channel.check()
        channel.outside = False
        channel.software.setup()
        channel.restart()

    def nonsense_descriptors(self, channel: FuzzedChannel) -> None:
        """Descriptors that end outside the memory, are empty or have a wrong index."""
        software, rng = channel.software, self._rng
        units = software.window.size // UNIT
        wrap  = 1 << 32
        for address, length, reason in (
                (int(rng.integers(units)), 0, Refusal.LENGTH), (units, 1, Refusal.MEMORY),
                (units - 1, 2, Refusal.MEMORY), (0, units + 1, Refusal.MEMORY),
                (wrap - 1, 1, Refusal.MEMORY), (wrap - 1, 2, Refusal.MEMORY),
                (wrap - units, units + 1, Refusal.MEMORY), (wrap - 1, wrap - 1, Refusal.MEMORY)):
            software.put("address", address)
            software.put("length", length)
            channel.expect(reason)
        software.put("address", 0)
        software.put("length", 1)
        for index in (1, -1, int(rng.integers(2, wrap - 1))):
            channel.expect(Refusal.INDEX, index=index)

    def doorbells(self, channel: FuzzedChannel) -> None:
        """Counts of the ring that are not possible, and sizes that are not effective yet."""
        software, rng = channel.software, self._rng
        for name in ("base_low", "base_high", "memory", "ring_low", "ring_high", "ring"):
            software.put(name, int(rng.integers(1 << rng.integers(1, 33))))
        taken, written = software.get("taken"), software.get("written")
        for count in (taken - 1, written + software.window.ring, written + (1 << 31)):
            software.put("take", count)
            if software.get("taken") != taken:
                raise Fault(f"take of {count} moved taken from {taken} to "
                            f"{software.get('taken')}")
        channel.push(self._identify(1))
        software.setup()

    def ring_full(self, channel: FuzzedChannel) -> None:
        """More responses than the ring holds, which stay unread for long."""
        size  = channel.comparison.size(Response(Opcode.INFO, 0, payload=bytes(24)))
        count = 2 * channel.software.window.ring // size
        channel.push(self._identify(count))
        self._core.run(int(self._rng.integers(1, 20_000)))
        channel.pull()

    def queue_full(self, channel: FuzzedChannel) -> None:
        """Descriptors faster than the memory serves them."""
        self._core.hold(channel.software.number, 40_000)
        for _ in range(int(self._rng.integers(1, 40))):
            channel.push(self._identify(1))

    def unknown_registers(self, channel: FuzzedChannel) -> None:
        """Accesses that must be refused and have no effect."""
        number = channel.software.number
        beyond = BANK * (1 + len(self._channels))
        for address in (register("wake", number) + 4, BANK - 4, beyond, 0xFFFC,
                        register("tail", number)):
            try:
                self._core.write(address, int(self._rng.integers(1 << 32)))
            except RegisterRefused:
                continue
            raise Fault(f"a write to {address:#x} was not refused")
        try:
            self._core.read(register("index", number))
        except RegisterRefused:
            return
        raise Fault("a read of index was not refused")

    def waits(self, _: FuzzedChannel) -> None:
        self._core.run(int(self._rng.integers(1, 3000)))

    def _identify(self, count: int) -> bytes:
        return b"".join(frame(Opcode.IDENTIFY, number % 256) for number in range(count))
