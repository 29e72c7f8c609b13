"""Reader of descriptors: streams memory words at the rate of the memory."""

from litedram.common import LiteDRAMNativePort
from litedram.frontend.dma import LiteDRAMDMAReader
from litex.gen import LiteXModule
from litex.soc.interconnect import stream
from migen import If, Signal

from tritstream.hw.soc.registers import UNIT

__all__ = ["Feeder"]

#: Addresses that can wait for each port, in a skid buffer. With more, reads of the next bank would
#: be issued too early, and the buffers of both ports would be full when a row has to be opened.
_AHEAD = 2


class Feeder(LiteXModule):
    """Reads the memory that descriptors name, in order and without gaps.

    A LiteDRAM port can request a new bank only when its previous bank has no command left.
    Therefore a stream over one port stalls whenever the bank changes, until a row is open. Two
    ports alternate every ``stretch`` words, so the next bank opens its row while the previous bank
    finishes its commands.

    Parameters
    ----------
    ports : list of LiteDRAMNativePort
        One or two ports.
    depth : int
        Largest number of outstanding or buffered words per port.
    stretch : int
        Consecutive words in one bank, a power of two.

    Members
    -------
    sink : Endpoint
        Descriptors: ``address`` and ``length`` in units of :data:`.UNIT` bytes. A length of 0 is
        invalid.
    source : Endpoint
        Memory words: ``data``, and ``last`` at the end of a descriptor.
    idle : Signal
        No descriptor waits and no word is outstanding.
    stop : Signal, in
        Drop the descriptor in work. Words that were requested still arrive.
    waiting : Signal
        An address waits for a port, for statistics.
    """

    def __init__(self, ports: list[LiteDRAMNativePort], depth: int, stretch: int) -> None:
        width, bits = ports[0].data_width, ports[0].address_width
        shift = (8 * UNIT // width).bit_length() - 1
        self.sink   = sink   = stream.Endpoint([("address", 26), ("length", 26)])
        self.source = source = stream.Endpoint([("data", width)])
        self.idle, self.stop, self.waiting = Signal(), Signal(), Signal()

        # A skid buffer has registers at both ends, before the arbitration of all banks.
        self.addresses = [stream.Buffer([("address", bits)], pipe_valid=True, pipe_ready=True)
                          for _ in ports]
        self.readers   = [LiteDRAMDMAReader(port, depth, fifo_buffered=True) for port in ports]
        self.submodules += self.addresses + self.readers
        for addresses, reader in zip(self.addresses, self.readers, strict=True):
            self.comb += addresses.source.connect(reader.sink)

        # Port of each outstanding word, and whether the word is the last of its descriptor.
        self.order = order = stream.SyncFIFO([("port", 1), ("end", 1)],
                                             len(ports) * (_AHEAD + depth))
        # The descriptor in work. Registers count, so that no adder precedes the choice of a port.
        busy    = Signal()
        address = Signal(26 + shift)
        left    = Signal(26 + shift)
        end     = Signal()
        port    = Signal()
        turn    = [port == number for number in range(len(ports))]
        ready   = Signal()
        issue   = Signal()
        self.comb += [
            port.eq(address[stretch.bit_length() - 1] if len(ports) > 1 else 0),
            end.eq(left == 1),
            issue.eq(busy & ~self.stop & ready & order.sink.ready),
            sink.ready.eq(~busy | (issue & end) | self.stop),
            order.sink.valid.eq(issue),
            order.sink.port.eq(port),
            order.sink.end.eq(end),
            self.waiting.eq(sink.valid | busy),
            self.idle.eq(~sink.valid & ~busy & ~order.source.valid),
        ]
        self.sync += [
            If(issue, address.eq(address + 1), left.eq(left - 1)),
            If(sink.ready,
                busy.eq(sink.valid),
                address.eq(sink.address << shift),
                left.eq(sink.length << shift)),
        ]
        for mine, addresses, reader in zip(turn, self.addresses, self.readers, strict=True):
            chosen = order.source.valid & (order.source.port == self.readers.index(reader))
            self.comb += [
                If(mine, ready.eq(addresses.sink.ready)),
                addresses.sink.address.eq(address),
                addresses.sink.valid.eq(mine & issue),
                If(addresses.source.valid, self.waiting.eq(1)),
                If(chosen,
                    source.valid.eq(reader.source.valid),
                    source.data.eq(reader.source.data),
                    reader.source.ready.eq(source.ready),
                ),
            ]
        self.comb += [
            source.last.eq(order.source.end),
            order.source.ready.eq(source.valid & source.ready),
        ]
