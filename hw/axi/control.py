"""Registers of a channel, and what they control: sessions, descriptors, ring and interrupt."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.interfaces import ADDRESS_BITS, Descriptor
from tritstream.hw.axi.registers import CHANNEL, MAGIC, Error, Refusal, Status
from tritstream.hw.soc.registers import COUNT_BITS

__all__ = ["ChannelControl"]

#: Cycles that a restart takes at least: the engine needs two in reset.
_RESET = 7
#: Cycles without progress after which a channel is idle.
_QUIET = 255


class ChannelControl(wiring.Component):
    """Registers of a channel: :data:`tritstream.hw.axi.registers.CHANNEL`.

    A restart first stops reader and writer and waits for their last burst. Then a cycle with
    ``clear`` begins the session with the sizes and addresses that the registers have at that time.

    Parameters
    ----------
    config : AxiConfig
        Build parameters.

    Members
    -------
    select, write, value
        Write ``value`` to the register of number ``select``; in bytes, register ``4 * select``.
    read, content
        Number of a register, and its content a cycle later.
    jobs : :py:`Out(stream.Signature(Descriptor))`
        Descriptors that were accepted, in the cycle in which they are.
    stop : :py:`Out(1)`
        Begin no burst.
    clear : :py:`Out(1)`
        Drop all words and descriptors. Reader and writer are idle.
    base, page : :py:`Out(52)`
        Pages at which memory and ring start.
    size : :py:`Out(32)`
        Words of the ring.
    taken : :py:`Out(32)`
        Words of the ring that software has released.
    arrived, written, read_error, write_error
        Outputs of reader and writer.
    idle : :py:`In(1)`
        Reader and writer are idle.
    moving : :py:`In(1)`
        The engine works, or words wait.
    irq : :py:`Out(1)`
        A bit of ``status`` is set that ``enable`` has selected.
    """

    def __init__(self, config: AxiConfig) -> None:
        self._config = config
        super().__init__({
            "select":      In(8),
            "write":       In(1),
            "value":       In(32),
            "read":        In(8),
            "content":     Out(32),
            "jobs":        Out(stream.Signature(Descriptor)),
            "stop":        Out(1, init=1),
            "clear":       Out(1),
            "base":        Out(ADDRESS_BITS - 12),
            "page":        Out(ADDRESS_BITS - 12),
            "size":        Out(32),
            "taken":       Out(COUNT_BITS),
            "arrived":     In(1),
            "written":     In(COUNT_BITS),
            "read_error":  In(3),
            "write_error": In(3),
            "idle":        In(1),
            "moving":      In(1),
            "irq":         Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._registers = {name: Signal(32, name=name) for name in CHANNEL}
        written = {name: Signal(name=f"{name}_written") for name, register in CHANNEL.items()
                   if "w" in register.access}
        self._write(m, written)
        self._read(m)
        m.d.comb += [
            self._registers["magic"].eq(MAGIC),
            self._registers["lanes"].eq(self._config.lanes),
            self._registers["align"].eq(self._config.lanes),
            self._registers["written"].eq(self.written),
            self._registers["taken"].eq(self.taken),
        ]
        self._restart(m, written["restart"])
        self._accept(m, written["index"])
        self._release(m, written["take"])
        self._report(m)
        return m

    def _write(self, m, written):
        """Store what is written to ``rw`` registers, and tell which register is written."""
        for name, strobe in written.items():
            register = CHANNEL[name]
            m.d.comb += strobe.eq(self.write & (self.select == register.offset // 4))
            if register.access == "rw":
                with m.If(strobe):
                    m.d.sync += self._registers[name][register.low:].eq(self.value[register.low:])

    def _read(self, m):
        with m.Switch(self.read):
            for name, register in CHANNEL.items():
                with m.Case(register.offset // 4):
                    m.d.sync += self.content.eq(
                        self._registers[name] if "r" in register.access else 0)
            with m.Default():
                m.d.sync += self.content.eq(0)

    def _restart(self, m, written):
        registers = self._registers
        session, ring = registers["session"], registers["ring"]
        wait = Signal(range(_RESET + 1))
        good = Signal()
        # Registered: software has written the sizes many cycles before ``restart``.
        m.d.sync += good.eq((ring[12:] != 0) & ((ring & (ring - 1)) == 0)
                            & (registers["memory"] != 0))
        self._running = Signal()
        self._memory  = Signal(32)
        self._broken  = Signal()
        with m.FSM():
            with m.State("RUN"):
                with m.If(written & (self.value == (session + 1)[:32])):
                    m.d.sync += [self.stop.eq(1), self._running.eq(0), wait.eq(_RESET)]
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.sync += wait.eq(Mux(wait == 0, 0, wait - 1))
                with m.If((wait == 0) & self.idle):
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += self.clear.eq(1)
                m.d.sync += [
                    session.eq(session + 1),
                    self._running.eq(good), self._broken.eq(~good), self.stop.eq(~good),
                    self._memory.eq(registers["memory"]),
                    self.base.eq(Cat(registers["base_low"][12:], registers["base_high"])),
                    self.page.eq(Cat(registers["ring_low"][12:], registers["ring_high"])),
                    self.size.eq(ring >> self._config.lanes.bit_length() - 1),
                ]
                m.next = "RUN"

    def _accept(self, m, written):
        """Take each descriptor once, with the expected index."""
        registers = self._registers
        tail, head, refused = registers["tail"], registers["head"], registers["refused"]
        end    = Signal(33)
        reason = Signal(3)
        with m.If(~self._running | (registers["error"] != Error.NONE)):
            m.d.comb += reason.eq(Refusal.STOPPED)
        with m.Elif(self.value != tail):
            m.d.comb += reason.eq(Refusal.INDEX)
        with m.Elif(registers["length"] == 0):
            m.d.comb += reason.eq(Refusal.LENGTH)
        with m.Elif(end > self._memory):
            m.d.comb += reason.eq(Refusal.MEMORY)
        with m.Elif(~self.jobs.ready):
            m.d.comb += reason.eq(Refusal.FULL)
        # Registered: two writes of registers are at least two cycles apart.
        m.d.sync += end.eq(registers["address"] + registers["length"])
        m.d.comb += [
            self.jobs.p.address.eq(registers["address"]),
            self.jobs.p.length.eq(registers["length"]),
            self.jobs.valid.eq(written & (reason == Refusal.NONE)),
        ]
        with m.If(written):
            m.d.sync += refused.eq(reason)
        with m.If(self.jobs.valid):
            m.d.sync += tail.eq(tail + 1)
        with m.If(self.clear):
            m.d.sync += head.eq(tail)
        with m.Elif(self.arrived):
            m.d.sync += head.eq(head + 1)

    def _release(self, m, written):
        """Release space of the ring only forward, and never more than was written."""
        ahead = (self.value - self.taken)[:32]
        most  = (self.written - self.taken)[:32]
        with m.If(self.clear):
            m.d.sync += self.taken.eq(self.written)
        with m.Elif(written & (ahead <= most)):
            m.d.sync += self.taken.eq(self.value)

    def _report(self, m):
        """Make ``error``, ``status`` and the interrupt."""
        registers = self._registers
        error, status = registers["error"], registers["status"]
        quiet   = Signal(range(_QUIET + 1))
        working = Signal()
        first   = Signal(3)     # error of the session
        latest  = Mux(self.read_error != Error.NONE, self.read_error, self.write_error)
        reached = (self.written - registers["wake"])[:32]
        bits = {Status.READY: self._running & (error == Error.NONE), Status.IDLE: quiet == _QUIET,
                Status.REACHED: ~reached[31], Status.ERROR: error != Error.NONE}
        m.d.comb += [
            error.eq(Mux(self._broken, Error.SIZES,
                         Mux(first != Error.NONE, first, latest))),
            status.eq(sum((Mux(value, bit, 0) for bit, value in bits.items()), 0)),
            working.eq(self.moving | ~self.idle | (registers["head"] != registers["tail"])),
        ]
        with m.If(self.clear):
            m.d.sync += first.eq(Error.NONE)
        with m.Elif(first == Error.NONE):
            m.d.sync += first.eq(latest)
        m.d.sync += [
            quiet.eq(Mux(working, 0, Mux(quiet == _QUIET, _QUIET, quiet + 1))),
            self.irq.eq((status & registers["enable"]).any()),
        ]
