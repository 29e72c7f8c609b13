"""Ports of the complete device and of the IP core, for any internal state."""

import pytest
from amaranth import Cat, Elaboratable, Module, Signal
from amaranth.hdl import Assert, Assume
from amaranth.lib.wiring import In, Out
from formal.rules import Obeys, Shipped, free

from tritstream.hw.config import DeviceConfig
from tritstream.hw.device import TritDevice
from tritstream.hw.tools.core_export import CORE, core_verilog
from tritstream.hw.tools.formal import Method

pytestmark = pytest.mark.long

CONFIGS = [DeviceConfig(1, 1, 16), DeviceConfig(8, 2, 64)]


def output_withdrawn(m, device):
    with m.If(device.i.valid):
        m.d.comb += device.o.valid.eq(0)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.lanes}x{c.columns}")
def test_device_holds(demonstrate, config):
    demonstrate(lambda: TritDevice(config), Obeys, [output_withdrawn], Method.INDUCTION, 2)


def shipped_core(config):
    """The IP core as its Verilog has it."""
    return Shipped(CORE, {
        "aresetn":       In(1),
        "s_axis_tdata":  In(config.word_bits),
        "s_axis_tvalid": In(1),
        "s_axis_tready": Out(1),
        "s_axis_tlast":  In(1),
        "m_axis_tdata":  Out(config.word_bits),
        "m_axis_tvalid": Out(1),
        "m_axis_tready": In(1),
        "m_axis_tlast":  Out(1),
    })


class AxiStreams(Elaboratable):
    """Specification: an IP core holds what it offers, from one reset to the next.

    TVALID and TREADY are low while ``aresetn`` is, which stays so for two cycles or more, and in
    the cycle after it, when the device is still in reset: no word is lost. ``s_axis`` is free; it
    need not even hold.
    """

    def __init__(self, core):
        self._core = core

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = self._core
        free(m, core.aresetn, core.s_axis_tdata, core.s_axis_tvalid, core.s_axis_tlast,
             core.m_axis_tready)
        before, earlier = Signal(), Signal()        # aresetn one cycle ago, and two
        waits, offered  = Signal(), Signal(1 + len(core.m_axis_tdata))
        offer = Cat(core.m_axis_tdata, core.m_axis_tlast)
        m.d.sync += [
            before.eq(core.aresetn), earlier.eq(before),
            waits.eq(core.m_axis_tvalid & ~core.m_axis_tready), offered.eq(offer),
        ]
        m.d.comb += Assume(before | ~earlier | ~core.aresetn)
        with m.If(core.aresetn & waits):
            m.d.comb += [Assert(core.m_axis_tvalid), Assert(offered == offer)]
        with m.If(~core.aresetn | ~before):
            m.d.comb += [Assert(~core.m_axis_tvalid), Assert(~core.s_axis_tready)]
        return m


def ready_in_reset(m, core):
    m.d.comb += core.s_axis_tready.eq(1)


def last_of_another_word(m, core):
    m.d.comb += core.m_axis_tlast.eq(core.s_axis_tlast)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.lanes}x{c.columns}")
def test_ip_core_holds(demonstrate, tmp_path, config):
    path = tmp_path / f"{CORE}.v"
    path.write_text(core_verilog(config))
    faults = [ready_in_reset, last_of_another_word] if config.lanes == 1 else []
    demonstrate(lambda: shipped_core(config), AxiStreams, faults, Method.INDUCTION, 4,
                libraries=(str(path),))
