"""Memory-mapped core: channels with AXI4 masters, AXI4-Lite registers and an interrupt."""

from amaranth import ClockDomain, ClockSignal, Instance, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from tritstream.hw.axi.config import MAX_CHANNELS, AxiConfig
from tritstream.hw.axi.interfaces import AxiLite, AxiRead, AxiWrite, attributes
from tritstream.hw.axi.lite_port import LitePort
from tritstream.hw.axi.registers import GLOBAL, MAGIC

__all__ = ["CHANNEL_MODULE", "TritstreamAxi", "core_ports", "master", "master_ports"]

#: Verilog module of a channel.
CHANNEL_MODULE = "tritstream_axi_channel"


def master(channel: int) -> str:
    """Return the name of the AXI4 master of a channel, which its ports begin with."""
    return f"m{channel:02}_axi"


def master_ports(lanes: int) -> dict[str, Member]:
    """Return the ports of an AXI4 master without its name, all signals of AXI4 included."""
    fixed = attributes(lanes)
    return {
        **AxiRead(lanes).members, **AxiWrite(lanes).members,
        **{f"a{way}{name}": Out(bits) for way in "rw" for name, (bits, _) in fixed.items()},
        "wstrb": Out(lanes),
        "rid":   In(fixed["id"][0]),
        "bid":   In(fixed["id"][0]),
    }


def core_ports(config: AxiConfig) -> dict[str, Member]:
    """Return the ports of the core."""
    return {
        "aclk":    In(1),
        "aresetn": In(1),
        "irq":     Out(1),
        **{f"s_axi_{name}": member.flip() for name, member in AxiLite.members.items()},
        **{f"{master(channel)}_{name}": member for channel in range(config.channels)
           for name, member in master_ports(config.lanes).items()},
    }


class TritstreamAxi(wiring.Component):
    """Core with one AXI4 master per channel. The Verilog of the channel is instantiated.

    Valid and ready signals are low while ``aresetn`` is low.

    Parameters
    ----------
    config : AxiConfig
        Build parameters.

    Members
    -------
    aclk : :py:`In(1)`
        Clock.
    aresetn : :py:`In(1)`
        Reset, active low, sampled at the rising edge of ``aclk``. Must be low for at least two
        cycles, and while a burst is outstanding only together with the memory's reset.
    irq : :py:`Out(1)`
        Interrupt of any channel, as a level.
    s_axi_*
        AXI4-Lite slave with the registers.
    m00_axi_*, m01_axi_*, ...
        AXI4 master of each channel. ``rid`` and ``bid`` are ignored.
    """

    def __init__(self, config: AxiConfig) -> None:
        self._config = config
        super().__init__(core_ports(config))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = domain = ClockDomain("sync", reset_less=True, local=True)
        reset    = Signal(init=1)
        channels = range(self._config.channels)
        port     = LitePort(len(channels))
        contents = [Signal(32, name=f"content{channel}") for channel in channels]
        pending  = Signal(MAX_CHANNELS)
        m.submodules.port = ResetInserter(reset)(port)
        m.d.comb += domain.clk.eq(self.aclk)
        m.d.sync += [reset.eq(~self.aresetn), self.irq.eq(pending.any() & self.aresetn)]
        self._connect_port(m, port.bus)
        with m.Switch(port.read_bank):
            with m.Case(0):
                m.d.sync += port.content.eq(self._global(m, port.read, pending))
            for channel in channels:
                with m.Case(1 + channel):
                    m.d.sync += port.content.eq(contents[channel])
        for channel in channels:
            m.submodules[f"channel{channel}"] = Instance(
                CHANNEL_MODULE, i_clk=ClockSignal(), i_rst=reset,
                i_select=port.select, i_value=port.value, i_read=port.read,
                i_write=port.write & (port.bank == 1 + channel),
                o_content=contents[channel], o_irq=pending[channel],
                **self._master(m, channel))
        return m

    def _quiet(self, name, value):
        """Return the value of a signal, which is 0 in reset if it is of a handshake."""
        return value & self.aresetn if name.endswith(("valid", "ready")) else value

    def _connect_port(self, m, bus):
        for name, member in AxiLite.members.items():
            outer, inner = getattr(self, f"s_axi_{name}"), getattr(bus, name)
            target, value = (inner, outer) if member.flow == Out else (outer, inner)
            m.d.comb += target.eq(self._quiet(name, value))

    def _global(self, m, number, pending):
        """Return a register of bank 0, a cycle late like the registers of channels."""
        content = Signal(32)
        values  = {"magic": MAGIC, "channels": self._config.channels, "pending": pending}
        with m.Switch(number):
            for name, register in GLOBAL.items():
                with m.Case(register.offset // 4):
                    m.d.sync += content.eq(values[name])
        return content

    def _master(self, m, channel):
        """Return the connections of a channel to its master, quiet in reset."""
        name, lanes, ports = master(channel), self._config.lanes, {}
        for side, signature in (("reads", AxiRead(lanes)), ("writes", AxiWrite(lanes))):
            for signal, member in signature.members.items():
                outer = getattr(self, f"{name}_{signal}")
                if member.flow == In:
                    ports[f"i_{side}__{signal}"] = outer
                    continue
                inner = ports[f"o_{side}__{signal}"] = Signal.like(outer, name=f"{name}_{signal}_")
                m.d.comb += outer.eq(self._quiet(signal, inner))
        for way in "rw":
            for signal, (_, value) in attributes(lanes).items():
                m.d.comb += getattr(self, f"{name}_a{way}{signal}").eq(value)
        m.d.comb += getattr(self, f"{name}_wstrb").eq((1 << lanes) - 1)
        return ports
