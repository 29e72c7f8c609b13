"""Etherbone that loses what it cannot hold, whole packets at a time."""

from liteeth.common import eth_udp_user_description
from liteeth.frontend.etherbone import LiteEthEtherbone
from litex.gen import LiteXModule
from litex.soc.interconnect import stream
from migen import Cat, If, Memory, Signal

__all__ = ["Etherbone", "PacketBuffer"]

#: Words of 32 bits that LiteEth's record buffer holds: a longer packet would stop it for good.
_LONGEST = 256
#: Words before what a record writes and reads: Etherbone's header, the record's.
_HEAD = 3
#: First 16 bits of a packet as they come, and behind them that it is no probe.
_MAGIC = 0x6F4E
#: Words, packets that wait at most.
_DEPTH, _PACKETS = 2048, 16


class PacketBuffer(LiteXModule):
    """Takes packets at any rate; gives those that are whole, sound, and fit a record.

    LiteEth 2024.12 has no room for a packet while it works on one, and gets stuck when one has to
    wait half way; and one that lost its end, or whose counts do not agree with its length, would
    take the next one along. So packets are given one at a time, and what comes while there is no
    room, with a wrong checksum, or of another length than its record tells, is dropped.

    Members
    -------
    sink, source : Endpoint
        Of a UDP port, 32 bits. ``sink.ready`` always stands.
    done : Signal, in
        The packet that was given has been worked on.
    """

    def __init__(self) -> None:
        bits   = _DEPTH.bit_length()    # one more than addresses have
        layout = eth_udp_user_description(32)
        self.sink, self.source = sink, source = stream.Endpoint(layout), stream.Endpoint(layout)
        self.done    = Signal()
        self.packets = packets = stream.SyncFIFO(
            [("end", bits), ("ip_address", 32), ("src_port", 16)], _PACKETS, buffered=True)
        memory = Memory(32, _DEPTH)
        write, read = memory.get_port(write_capable=True), memory.get_port()
        self.specials += memory, write, read

        start, at, out, count = Signal(bits), Signal(bits), Signal(bits), Signal(12)
        held, after, behind = Signal(bits), Signal(bits), Signal(bits)
        due, wrong, full = Signal(12), Signal(), Signal()
        writes, reads = sink.data[16:24], sink.data[24:32]
        self.comb += [
            sink.ready.eq(1),
            held.eq(at - out), after.eq(at + 1), behind.eq(out + 1),
            full.eq(held == _DEPTH),
            write.adr.eq(at), write.dat_w.eq(sink.data), write.we.eq(sink.valid & ~full),
            packets.sink.valid.eq(sink.valid & sink.last & ~wrong & ~full & (sink.error == 0)
                                  & (count + 1 == due) & (due > _HEAD) & (due <= _LONGEST)),
            packets.sink.end.eq(after),
            packets.sink.ip_address.eq(sink.ip_address),
            packets.sink.src_port.eq(sink.src_port),
        ]
        self.sync += If(sink.valid,
            If(~full, at.eq(after)),
            count.eq(count + 1),
            wrong.eq(wrong | full | (sink.error != 0)),
            If((count == 0) & (Cat(sink.data[:16], sink.data[16]) != _MAGIC), wrong.eq(1)),
            If(count == _HEAD - 1,
                due.eq(_HEAD + writes + (writes != 0) + reads + (reads != 0))),
            If(sink.last,
                count.eq(0), wrong.eq(0), due.eq(0),
                If(packets.sink.valid & packets.sink.ready,
                    start.eq(after)
                ).Else(
                    at.eq(start))))

        ahead, given = Signal(bits), Signal()
        self.comb += [
            source.valid.eq(packets.source.valid & ~given),
            source.last.eq(behind == packets.source.end),
            source.last_be.eq(source.last << 3),
            source.data.eq(read.dat_r),
            source.ip_address.eq(packets.source.ip_address),
            source.src_port.eq(packets.source.src_port),
            packets.source.ready.eq(source.valid & source.ready & source.last),
            ahead.eq(out + (source.valid & source.ready)),
            read.adr.eq(ahead),
        ]
        self.sync += [
            out.eq(ahead),
            If(self.done, given.eq(0)),
            If(packets.source.ready, given.eq(1)),
        ]


class _Buffered:
    """A UDP port with a :class:`PacketBuffer`, in the place of LiteEth's UDP."""

    dw = 32

    def __init__(self, udp) -> None:
        self.crossbar, self._crossbar = self, udp.crossbar
        self.buffer = PacketBuffer()

    def get_port(self, number, dw, cd):
        port = self._crossbar.get_port(number, dw=dw, cd=cd)
        self.received, port.source = port.source, self.buffer.source
        return port


class Etherbone(LiteEthEtherbone):
    """LiteEth's Etherbone, a bus master for whoever sends packets to a UDP port.

    Parameters
    ----------
    udp : LiteEthUDP
        32 bits wide.
    port : int
    """

    def __init__(self, udp, port) -> None:
        buffered = _Buffered(udp)
        LiteEthEtherbone.__init__(self, buffered, port, buffer_depth=_LONGEST)
        self.buffer = buffered.buffer
        self.comb += buffered.received.connect(self.buffer.sink)
        # LiteEth 2024.12 takes the number of a record that writes and reads for its first address.
        receiver = self.record.receiver
        receiver.fsm.act("RECEIVE_BASE_RET_ADDR", receiver.fifo.source.ready.eq(1))
        self.comb += self.buffer.done.eq(receiver.fsm.before_entering("IDLE"))
