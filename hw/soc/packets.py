"""Etherbone with a packet buffer that drops complete packets on overflow or error."""

from liteeth.common import eth_etherbone_mmap_description, eth_udp_user_description
from liteeth.core.udp import LiteEthUDP
from liteeth.frontend.etherbone import (
    LiteEthEtherbonePacket,
    LiteEthEtherboneProbe,
    LiteEthEtherboneRecord,
    LiteEthEtherboneWishboneMaster,
)
from litex.gen import LiteXModule
from litex.soc.interconnect import stream
from litex.soc.interconnect.packet import Arbiter, Dispatcher
from migen import Cat, ClockDomainsRenamer, If, Memory, Signal

from tritstream.hw.soc.network import NETWORK

__all__ = ["Etherbone", "PacketBuffer"]

#: Capacity in 32-bit words of the record buffer of LiteEth. A longer packet would block it forever.
_LONGEST = 256
#: Words before the data of a record: the headers of Etherbone and of the record.
_HEAD = 3
#: First 16 bits of a packet in order of arrival; bit 16 is 0, since the packet is no probe.
_MAGIC = 0x6F4E
#: Capacity in words and in packets.
_DEPTH, _PACKETS = 2048, 16
#: Words of a crossing between clock domains: more than pass while its pointers cross.
_CROSSING = 16


class PacketBuffer(LiteXModule):
    """Accepts packets at any rate, and passes on the valid packets that fit a record.

    LiteEth 2024.12 cannot buffer a packet while it processes another, and blocks if a packet is
    interrupted. A packet that lost its end, or whose counts do not match its length, would also
    corrupt the next packet. Therefore this buffer passes on one packet at a time. It drops packets
    that arrive while the buffer is full, have a wrong checksum, or do not have the length that
    their record header states.

    Members
    -------
    sink, source : Endpoint
        Streams of a UDP port, 32 bits wide. ``sink.ready`` is always set.
    done : Signal, in
        The last packet at ``source`` has been processed.
    """

    def __init__(self) -> None:
        bits   = _DEPTH.bit_length()    # one bit more than an address
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
    """UDP port with a :class:`PacketBuffer`, as a replacement for the UDP layer of LiteEth."""

    dw = 32

    def __init__(self, udp: LiteEthUDP) -> None:
        self.crossbar, self._crossbar = self, udp.crossbar
        self.buffer = PacketBuffer()

    def get_port(self, number, dw, cd):
        port = self._crossbar.get_port(number, dw=dw, cd=cd)
        self.received, port.source = port.source, self.buffer.source
        return port


class _Records(LiteXModule):
    """Etherbone of LiteEth up to its bus: ``source`` has the requests, ``sink`` the responses."""

    def __init__(self, udp: LiteEthUDP, port: int) -> None:
        buffered    = _Buffered(udp)
        self.packet = packet = LiteEthEtherbonePacket(buffered, port)
        self.buffer = buffer = buffered.buffer
        self.probe  = probe  = LiteEthEtherboneProbe()
        self.record = record = LiteEthEtherboneRecord(buffer_depth=_LONGEST)
        self.sink, self.source = record.sender.sink, record.receiver.source
        receiver   = record.receiver
        dispatcher = Dispatcher(packet.source, [probe.sink, record.sink])
        self.submodules += dispatcher, Arbiter([probe.source, record.source], packet.sink)
        # LiteEth 2024.12 uses the return address of a record that writes and reads as its first
        # address.
        receiver.fsm.act("RECEIVE_BASE_RET_ADDR", receiver.fifo.source.ready.eq(1))
        self.comb += [
            buffered.received.connect(buffer.sink),
            dispatcher.sel.eq(~packet.source.pf),
            buffer.done.eq(receiver.fsm.before_entering("IDLE")),
        ]


class Etherbone(LiteXModule):
    """Etherbone of LiteEth: a bus master that is controlled by packets to a UDP port.

    Packets are in the domain :data:`.NETWORK`, and the bus in that of the system.

    Parameters
    ----------
    udp : LiteEthUDP
        UDP layer, 32 bits wide.
    port : int
        Number of the UDP port.

    Members
    -------
    bus : wishbone.Interface
        Bus master of 32 bits.
    """

    def __init__(self, udp: LiteEthUDP, port: int) -> None:
        self.records   = records   = ClockDomainsRenamer(NETWORK)(_Records(udp, port))
        self.requests  = requests  = self._crossing(NETWORK, "sys")
        self.responses = responses = self._crossing("sys", NETWORK)
        self.master    = master    = LiteEthEtherboneWishboneMaster()
        self.bus = master.bus
        self.comb += [
            records.source.connect(requests.sink), requests.source.connect(master.sink),
            master.source.connect(responses.sink), responses.source.connect(records.sink),
        ]

    def _crossing(self, source, sink):
        return stream.ClockDomainCrossing(eth_etherbone_mmap_description(32), source, sink,
                                          depth=_CROSSING, buffered=True)
