"""Writer of responses: an AXI4 write master that fills a ring in memory."""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from tritstream.hw.axi.burst_reader import PAGE_BITS
from tritstream.hw.axi.interfaces import ADDRESS_BITS, AxiWrite
from tritstream.hw.axi.registers import Error
from tritstream.hw.soc.registers import COUNT_BITS

__all__ = ["OUTSTANDING", "BurstWriter"]

#: Largest number of outstanding write bursts.
OUTSTANDING = 4


class BurstWriter(wiring.Component):
    """Writes words to a ring in memory.

    Words are collected for a complete burst, because every change from reading to writing costs
    time in a memory. With ``flush`` they are written at once. A burst starts only when all of its
    words are here and the ring has room for them, so ``wvalid`` stays high until the last beat.

    Parameters
    ----------
    lanes : int
        Bytes per beat.
    burst : int
        Largest number of beats per burst, a power of two; at most 4096 bytes.

    Members
    -------
    i : :py:`In(stream.Signature(8 * lanes))`
        Words to write.
    bus : :py:`Out(AxiWrite(lanes))`
        AXI4 write channels.
    page : :py:`In(52)`
        Page at which the ring starts.
    size : :py:`In(32)`
        Words of the ring, a power of two, at least a page. May change while the writer is idle.
    taken : :py:`In(32)`
        Number of words since power-on that software has released.
    flush : :py:`In(1)`
        Write words at once.
    stop : :py:`In(1)`
        Begin no burst.
    clear : :py:`In(1)`
        Drop the words that wait, and the error. Must be set only while the writer is idle.
    written : :py:`Out(32)`
        Number of words since power-on whose writes the memory has acknowledged.
    empty : :py:`Out(1)`
        No word waits.
    idle : :py:`Out(1)`
        No burst is being sent or unacknowledged.
    error : :py:`Out(Error)`
        First error since the last ``clear``. ``written`` stops at it, and no burst begins.
    """

    def __init__(self, lanes: int, burst: int) -> None:
        self._lanes, self._burst = lanes, burst
        super().__init__({
            "i":       In(stream.Signature(8 * lanes)),
            "bus":     Out(AxiWrite(lanes)),
            "page":    In(ADDRESS_BITS - PAGE_BITS),
            "size":    In(COUNT_BITS),
            "taken":   In(COUNT_BITS),
            "flush":   In(1),
            "stop":    In(1),
            "clear":   In(1),
            "written": Out(COUNT_BITS),
            "empty":   Out(1),
            "idle":    Out(1),
            "error":   Out(3),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words  = SyncFIFOBuffered(width=8 * self._lanes, depth=2 * self._burst)
        # Beats of each burst that is not acknowledged.
        bursts = m.submodules.bursts = SyncFIFO(width=9, depth=OUTSTANDING)
        m.submodules.words = ResetInserter(self.clear)(words)
        m.d.comb += [
            words.w_data.eq(self.i.payload),
            words.w_en.eq(self.i.valid),
            self.i.ready.eq(words.w_rdy),
            self.empty.eq(words.level == 0),
        ]
        self._send(m, words, bursts)
        self._acknowledge(m, bursts)
        return m

    def _send(self, m, words, bursts):
        bus     = self.bus
        issued  = Signal(COUNT_BITS)
        offset  = Signal(COUNT_BITS)
        free    = Signal(COUNT_BITS)
        place   = self._burst.bit_length() - 1
        space   = Signal(place + 1)
        beats   = Signal(place + 1)
        left    = Signal(place + 1)
        writing = Signal()
        wanted  = Signal()
        m.d.comb += [
            offset.eq(issued & (self.size - 1)),
            space.eq(self._burst - offset[:place]),
            wanted.eq((words.level >= self._burst) | self.flush & (words.level != 0)),
            bursts.w_data.eq(beats),
            bus.wdata.eq(words.r_data),
            bus.wlast.eq(left == 1),
            bus.wvalid.eq(writing & words.r_rdy),
            words.r_en.eq(writing & bus.wready),
        ]
        m.d.sync += free.eq(self.size - (issued - self.taken))
        with m.FSM() as fsm:
            with m.State("REST"):
                m.d.sync += [
                    beats.eq(Mux(words.level < space, words.level, space)),
                    bus.awaddr.eq((self.page << PAGE_BITS) + offset * self._lanes),
                ]
                with m.If(self.clear):
                    m.d.sync += issued.eq(self.written)
                with m.Elif(wanted & bursts.w_rdy & ~self.stop & (self.error == Error.NONE)):
                    m.next = "ROOM"
            with m.State("ROOM"):
                m.d.sync += beats.eq(Mux(free < beats, free, beats))
                m.next = "BEGIN"
                with m.If(free == 0):
                    m.next = "REST"
            with m.State("BEGIN"):
                m.d.comb += bursts.w_en.eq(1)
                m.d.sync += [
                    bus.awvalid.eq(1), bus.awlen.eq(beats - 1),
                    writing.eq(1), left.eq(beats), issued.eq(issued + beats),
                ]
                m.next = "SEND"
            with m.State("SEND"):
                with m.If(bus.awready):
                    m.d.sync += bus.awvalid.eq(0)
                with m.If(bus.wvalid & bus.wready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(bus.wlast):
                        m.d.sync += writing.eq(0)
                with m.If(~bus.awvalid & ~writing):
                    m.next = "REST"
        m.d.comb += self.idle.eq(fsm.ongoing("REST") & ~bursts.r_rdy)

    def _acknowledge(self, m, bursts):
        bus = self.bus
        m.d.comb += [
            bus.bready.eq(bursts.r_rdy),
            bursts.r_en.eq(bus.bvalid),
        ]
        with m.If(self.clear):
            m.d.sync += self.error.eq(Error.NONE)
        with m.Elif(bus.bvalid & bus.bready & (self.error == Error.NONE)):
            with m.If(bus.bresp == 0):
                m.d.sync += self.written.eq(self.written + bursts.r_data)
            with m.Else():
                m.d.sync += self.error.eq(Mux(
                    bus.bresp[1], Mux(bus.bresp[0], Error.WRITE_DECERR, Error.WRITE_SLVERR),
                    Error.WRITE_BROKEN))
