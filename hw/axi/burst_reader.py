"""Reader of descriptors: an AXI4 read master that streams memory words to the engine."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from tritstream.hw.axi.interfaces import ADDRESS_BITS, AxiRead, Descriptor
from tritstream.hw.axi.registers import Error
from tritstream.hw.soc.registers import UNIT

__all__ = ["PAGE_BITS", "BurstReader"]

#: Bits of an address within a page of 4 KB.
PAGE_BITS = 12

_UNIT_BITS = UNIT.bit_length() - 1


class BurstReader(wiring.Component):
    """Reads the memory that descriptors name, in order.

    A burst is requested only if the buffer has room for all of its words, so ``rready`` is high
    while a burst is outstanding. A burst ends at an address that is a multiple of its largest size,
    and so never crosses a page. A burst takes at least three cycles.

    After an error, no further word leaves or enters the buffer's input and no further burst is
    requested; words that arrive are dropped. Only a reset in an idle reader clears the error.

    Parameters
    ----------
    lanes : int
        Bytes per beat, at most 64.
    burst : int
        Largest number of beats per burst, a power of two; 64 to 4096 bytes.
    outstanding : int
        Largest number of outstanding bursts.
    depth : int
        Largest number of requested and buffered words.

    Members
    -------
    jobs : :py:`In(stream.Signature(Descriptor))`
        Descriptors. A length of 0 is invalid.
    base : :py:`In(52)`
        Page of address 0 of descriptors. Must not change while a descriptor is being read.
    bus : :py:`Out(AxiRead(lanes))`
        AXI4 read channels.
    o : :py:`Out(stream.Signature(8 * lanes))`
        Memory words.
    stop : :py:`In(1)`
        Drop the descriptor that is being read. Words that were requested still arrive.
    arrived : :py:`Out(1)`
        The last word of a descriptor arrives.
    idle : :py:`Out(1)`
        No descriptor is being read and no burst is outstanding.
    error : :py:`Out(Error)`
        First error since the reset.
    room : :py:`Out(range(depth + 1))`
        Words for which there is room and which are not requested.
    """

    def __init__(self, lanes: int, burst: int, outstanding: int, depth: int) -> None:
        self._lanes, self._burst = lanes, burst
        self._outstanding, self._depth = outstanding, depth
        super().__init__({
            "jobs":    In(stream.Signature(Descriptor)),
            "base":    In(ADDRESS_BITS - PAGE_BITS),
            "bus":     Out(AxiRead(lanes)),
            "o":       Out(stream.Signature(8 * lanes)),
            "stop":    In(1),
            "arrived": Out(1),
            "idle":    Out(1),
            "error":   Out(3),
            "room":    Out(range(depth + 1), init=depth),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Beats minus one of each outstanding burst, and whether it is the last of its descriptor.
        bursts = m.submodules.bursts = SyncFIFO(width=9, depth=self._outstanding)
        words  = m.submodules.words  = SyncFIFOBuffered(width=8 * self._lanes, depth=self._depth)
        issue  = self._request(m, bursts, words)
        self._receive(m, bursts, words)
        m.d.comb += [
            bursts.w_en.eq(issue),
            self.o.payload.eq(words.r_data),
            self.o.valid.eq(words.r_rdy),
            words.r_en.eq(self.o.ready),
        ]
        return m

    def _request(self, m, bursts, words):
        """Cut descriptors into bursts; return a signal that is set when a burst is requested."""
        bus, job = self.bus, self.jobs.p
        shift  = (UNIT // self._lanes).bit_length() - 1
        place  = (self._burst >> shift).bit_length() - 1
        at     = Signal(ADDRESS_BITS - _UNIT_BITS)
        left   = Signal(32)
        space  = Signal(place + 1)
        units  = Signal(place + 1)
        beats  = Signal(range(self._burst + 1))
        length = Signal(8)
        end    = Signal()
        issue  = Signal()
        halted = Signal()
        m.d.comb += [
            halted.eq(self.stop | (self.error != Error.NONE)),
            space.eq((1 << place) - at[:place]),
            beats.eq(units << shift),
            length.eq(beats - 1),
            bursts.w_data.eq(Cat(length, end)),
        ]
        m.d.sync += self.room.eq(self.room - Mux(issue, beats, 0) + (self.o.valid & self.o.ready))
        with m.FSM() as fsm:
            with m.State("LOAD"):
                m.d.comb += self.jobs.ready.eq(~halted)
                m.d.sync += [at.eq((self.base << PAGE_BITS - _UNIT_BITS) + job.address),
                             left.eq(job.length)]
                with m.If(self.jobs.valid & ~halted):
                    m.next = "CUT"
            with m.State("CUT"):
                m.d.sync += [units.eq(Mux(left <= space, left, space)), end.eq(left <= space)]
                m.next = "ASK"
            with m.State("ASK"):
                m.d.sync += [bus.araddr.eq(at << _UNIT_BITS), bus.arlen.eq(length)]
                with m.If(halted):
                    m.next = "LOAD"
                with m.Elif((self.room >= beats) & bursts.w_rdy):
                    m.d.comb += issue.eq(1)
                    m.d.sync += [bus.arvalid.eq(1), at.eq(at + units), left.eq(left - units)]
                    m.next = "OFFER"
            with m.State("OFFER"):
                with m.If(bus.arready):
                    m.d.sync += bus.arvalid.eq(0)
                    with m.If(end):
                        m.next = "LOAD"
                    with m.Else():
                        m.next = "CUT"
        m.d.comb += self.idle.eq(fsm.ongoing("LOAD") & ~bursts.r_rdy)
        return issue

    def _receive(self, m, bursts, words):
        """Check the beats of outstanding bursts, and buffer the good ones."""
        bus   = self.bus
        beat  = Signal()
        count = Signal(8)
        last  = Signal()
        good  = Signal()
        m.d.comb += [
            bus.rready.eq(bursts.r_rdy),
            beat.eq(bus.rvalid & bus.rready),
            last.eq(count == bursts.r_data[:8]),
            good.eq(beat & (bus.rresp == 0) & (bus.rlast == last) & (self.error == Error.NONE)),
            words.w_data.eq(bus.rdata),
            words.w_en.eq(good),
            bursts.r_en.eq(beat & last),
            self.arrived.eq(good & last & bursts.r_data[8]),
        ]
        with m.If(beat):
            m.d.sync += count.eq(Mux(last, 0, count + 1))
        with m.If(beat & ~good & (self.error == Error.NONE)):
            m.d.sync += self.error.eq(Mux(
                bus.rresp[1], Mux(bus.rresp[0], Error.READ_DECERR, Error.READ_SLVERR),
                Error.READ_BROKEN))
