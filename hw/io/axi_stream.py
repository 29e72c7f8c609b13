"""IP core: the device with AXI4-Stream ports."""

from amaranth import ClockDomain, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.lane_array import LaneType
from tritstream.hw.config import DeviceConfig
from tritstream.hw.device import TritDevice

__all__ = ["AxiStreamDevice"]


class AxiStreamDevice(wiring.Component):
    """:class:`.TritDevice` with AXI4-Stream ports.

    There is no TKEEP: every transfer carries ``lanes`` bytes. ``s_axis_tready`` and
    ``m_axis_tvalid`` are low while ``aresetn`` is low.

    Parameters
    ----------
    config : DeviceConfig
        Build parameters.
    lane : type, optional
        Lane component, as for :class:`.LaneArray`.

    Members
    -------
    aclk : :py:`In(1)`
        Clock.
    aresetn : :py:`In(1)`
        Reset, active low, sampled at the rising edge of ``aclk``. Must be low for at least two
        cycles.
    s_axis_tdata, s_axis_tvalid, s_axis_tready, s_axis_tlast
        Request frames, ``8 * lanes`` bits per transfer. TLAST is ignored.
    m_axis_tdata, m_axis_tvalid, m_axis_tready, m_axis_tlast
        Response frames, ``8 * lanes`` bits per transfer. TLAST marks the last word of each frame.
    """

    def __init__(self, config: DeviceConfig, lane: LaneType = Lane) -> None:
        self._config = config
        self._lane   = lane
        super().__init__({
            "aclk":          In(1),
            "aresetn":       In(1),
            "s_axis_tdata":  In(8 * config.lanes),
            "s_axis_tvalid": In(1),
            "s_axis_tready": Out(1),
            "s_axis_tlast":  In(1),
            "m_axis_tdata":  Out(8 * config.lanes),
            "m_axis_tvalid": Out(1),
            "m_axis_tready": In(1),
            "m_axis_tlast":  Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = domain = ClockDomain("sync", reset_less=True, local=True)
        reset  = Signal(init=1)
        device = TritDevice(self._config, self._lane)
        # Registered, because the reset reaches every register of the device.
        m.d.sync += reset.eq(~self.aresetn)
        m.submodules.core = ResetInserter(reset)(device)
        m.d.comb += [
            domain.clk.eq(self.aclk),
            device.i.payload.eq(self.s_axis_tdata),
            device.i.valid.eq(self.s_axis_tvalid & self.aresetn),
            self.s_axis_tready.eq(device.i.ready & self.aresetn),
            self.m_axis_tdata.eq(device.o.p.data),
            self.m_axis_tlast.eq(device.o.p.last),
            self.m_axis_tvalid.eq(device.o.valid & self.aresetn),
            device.o.ready.eq(self.m_axis_tready & self.aresetn),
        ]
        return m
