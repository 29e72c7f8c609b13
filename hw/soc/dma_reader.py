"""From descriptors to a stream of memory words, at the rate of the memory."""

from litedram.frontend.dma import LiteDRAMDMAReader
from litex.gen import LiteXModule
from litex.soc.interconnect import stream
from migen import If, Signal

from tritstream.hw.soc.registers import UNIT

__all__ = ["Feeder"]

#: Addresses that wait for a port. More would let the next bank's reads come before their turn, and
#: both ports' buffers be full when a row has to be opened.
_AHEAD = 2


class Feeder(LiteXModule):
    """Reads what descriptors name, one after the other, without a gap between them.

    LiteDRAM lets a port ask for a bank only when its last bank has no command left, so that a
    stream over one port waits for a row to be opened whenever the bank changes. Over two ports,
    which take turns of ``stretch`` words, the next bank opens its row while the last one's commands
    run out.

    Parameters
    ----------
    ports : list of LiteDRAMNativePort
        One or two.
    depth : int
        Words each port may have under way or waiting.
    stretch : int
        Words that stay in one bank, a power of two.

    Members
    -------
    sink : Endpoint
        ``address`` and ``length`` in units of :data:`UNIT` bytes; length is not 0.
    source : Endpoint
        ``data``, ``last`` at the end of a descriptor.
    idle : Signal
        Nothing waits and nothing is under way.
    stop : Signal, in
        Forget the descriptor at the sink; what was asked for still comes.
    waiting : Signal
        An address waits for a port, for counting.
    """

    def __init__(self, ports, depth, stretch) -> None:
        width, bits = ports[0].data_width, ports[0].address_width
        shift = (8 * UNIT // width).bit_length() - 1
        self.sink   = sink   = stream.Endpoint([("address", 26), ("length", 26)])
        self.source = source = stream.Endpoint([("data", width)])
        self.idle, self.stop, self.waiting = Signal(), Signal(), Signal()

        self.addresses = [stream.SyncFIFO([("address", bits)], _AHEAD) for _ in ports]
        self.readers   = [LiteDRAMDMAReader(port, depth, fifo_buffered=True) for port in ports]
        self.submodules += self.addresses + self.readers
        for addresses, reader in zip(self.addresses, self.readers, strict=True):
            self.comb += addresses.source.connect(reader.sink)

        # Which port each word comes from, and whether it is a descriptor's last.
        self.order = order = stream.SyncFIFO([("port", 1), ("end", 1)],
                                             len(ports) * (_AHEAD + depth))
        done    = Signal(26 + shift)
        address = Signal(26 + shift)
        end     = Signal()
        port    = Signal()
        turn    = [port == number for number in range(len(ports))]
        ready   = Signal()
        issue   = Signal()
        self.comb += [
            address.eq((sink.address << shift) + done),
            port.eq(address[stretch.bit_length() - 1] if len(ports) > 1 else 0),
            end.eq(done + 1 == sink.length << shift),
            issue.eq(sink.valid & ~self.stop & ready & order.sink.ready),
            sink.ready.eq((issue & end) | self.stop),
            order.sink.valid.eq(issue),
            order.sink.port.eq(port),
            order.sink.end.eq(end),
            self.waiting.eq(sink.valid),
            self.idle.eq(~sink.valid & ~order.source.valid),
        ]
        self.sync += If(issue, done.eq(done + 1)), If(sink.ready, done.eq(0))
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
