"""The driver's transport over the AXI4-Stream ports of the IP core, by cocotbext-axi."""

import logging

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiStreamBus, AxiStreamSink, AxiStreamSource

from benches.transport import BenchTransport
from benches.wires import reset

__all__ = ["PINS", "AxiTransport"]

#: Clock and reset, as :func:`benches.wires.start` takes them.
PINS = {"clk": "aclk", "rst": "aresetn", "active": 0}


class AxiTransport(BenchTransport):
    """Like :class:`BenchTransport`, with source and sink of cocotbext-axi.

    Each ``send`` is a separate packet, so TLAST arrives at any word. TLAST of the device ends a
    response.
    """

    def _connect(self, source_stalls, sink_stalls):
        dut = self._dut
        self.clk    = dut.aclk
        pins = dut.aclk, dut.aresetn, False
        self._source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), *pins)
        self._sink   = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), *pins)
        for side, stalls in ((self._source, source_stalls), (self._sink, sink_stalls)):
            side.log.setLevel(logging.WARNING)      # it tells every frame in full
            side.set_pause_generator(stalls)
        cocotb.start_soon(self._collect())
        cocotb.start_soon(self._watch())

    async def reset(self):
        """Reset the device like :class:`BenchTransport`."""
        self._source.clear()
        await reset(self._dut, **PINS)
        self._sink.clear()
        self._forget()

    def _offer(self, data):
        self._source.send_nowait(data)

    def _left(self):
        return not self._source.idle()

    async def _collect(self):
        while True:
            frame = await self._sink.recv()
            self._frame += frame.tdata
            self._end_frame()

    async def _watch(self):
        dut = self._dut
        while True:
            await RisingEdge(dut.aclk)
            if not int(dut.aresetn.value):
                self._offered = None
                assert not int(dut.m_axis_tvalid.value), "TVALID in reset"
                assert not int(dut.s_axis_tready.value), "TREADY in reset"
                continue
            busy = self._left() or not self._sink.idle()
            self._quiet = 0 if busy else self._quiet + 1
            word = int(dut.m_axis_tdata.value), int(dut.m_axis_tlast.value)
            self._check_hold(word if int(dut.m_axis_tvalid.value) else None,
                             int(dut.m_axis_tready.value))
