"""Device on a serial line: conversion of bytes to words, and recovery after lost bytes."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect

from tritstream.hw.config import DeviceConfig
from tritstream.hw.device import TritDevice
from tritstream.hw.interfaces import AnswerWord
from tritstream.hw.io.uart import Line, Received, UartReceiver, UartTransmitter
from tritstream.hw.primitives.stream_buffer import StreamBuffer

__all__ = ["SerialDevice", "WordAssembler", "WordSplitter"]

#: Holds SCALES, which a host may send while responses to an earlier request are being sent.
_FIFO_BYTES = 256


class WordAssembler(wiring.Component):
    """Converter of bytes to words, lowest byte first.

    A gap drops a partial word and makes the device abandon its frame. Throughput is one byte per
    cycle.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    i : :py:`In(stream.Signature(Received))`
        Bytes and gaps.
    o : :py:`Out(stream.Signature(8 * lanes))`
        Words.
    abandon : :py:`Out(1)`
        Request to give up the current frame. Held, with nothing offered at ``o``, until
        ``abandoned``.
    abandoned : :py:`In(1)`
        No frame is being received any more.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__({
            "i":         In(stream.Signature(Received)),
            "o":         Out(stream.Signature(8 * lanes)),
            "abandon":   Out(1),
            "abandoned": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(range(self._lanes))
        free  = ~self.o.valid | self.o.ready
        m.d.comb += [
            self.abandon.eq(self.i.valid & self.i.p.gap & ~self.o.valid),
            self.i.ready.eq(free & ~self.i.p.gap | self.abandon & self.abandoned),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                self.o.payload.eq(Cat(self.o.payload, self.i.p.data)[8:]),
                self.o.valid.eq(~self.i.p.gap & (count == self._lanes - 1)),
                count.eq(count + 1),
            ]
            with m.If(self.i.p.gap):
                m.d.sync += count.eq(0)
        return m


class WordSplitter(wiring.Component):
    """Converter of words to bytes, lowest byte first. Throughput is one byte per cycle.

    Parameters
    ----------
    lanes : int
        Bytes per word.

    Members
    -------
    i : :py:`In(stream.Signature(AnswerWord(lanes)))`
        Words.
    o : :py:`Out(stream.Signature(8))`
        Bytes.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__({
            "i": In(stream.Signature(AnswerWord(lanes))),
            "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        byte = Signal(range(self._lanes))
        m.d.comb += [
            self.o.valid.eq(self.i.valid),
            self.o.payload.eq(self.i.p.data.word_select(byte, 8)),
            self.i.ready.eq(self.o.ready & (byte == self._lanes - 1)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += byte.eq(byte + 1)
        return m


class SerialDevice(wiring.Component):
    """The device with a UART: everything on a board except clock and pins.

    There is no flow control. The device takes words at the rate of the line, except during a GEMV
    whose results take longer to send than its words to arrive. See
    :attr:`tritstream.host.transports.base.Transport.flow_control`.

    Parameters
    ----------
    config : DeviceConfig
        Build parameters.
    line : Line
        Timing of the serial line.

    Members
    -------
    rx : :py:`In(1)`
        Line from the host, asynchronous, high when idle.
    tx : :py:`Out(1)`
        Line to the host, high when idle.
    busy, failed : :py:`Out(1)`
        Status of :class:`tritstream.hw.device.TritDevice`.
    """

    def __init__(self, config: DeviceConfig, line: Line) -> None:
        self._config = config
        self._line   = line
        super().__init__({
            "rx":     In(1, init=1),
            "tx":     Out(1, init=1),
            "busy":   Out(1),
            "failed": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self._config.lanes
        m.submodules.receiver  = receiver  = UartReceiver(self._line)
        m.submodules.fifo      = fifo      = SyncFIFOBuffered(
            width=Received.size, depth=_FIFO_BYTES)
        m.submodules.buffer    = buffer    = StreamBuffer(Received.size)
        m.submodules.assembler = assembler = WordAssembler(lanes)
        m.submodules.device    = device    = TritDevice(self._config)
        m.submodules.splitter  = splitter  = WordSplitter(lanes)
        m.submodules.sender    = sender    = UartTransmitter(self._line)

        # The read data of the memory is late, so it is registered before any logic uses it.
        connect(m, fifo.r_stream, buffer.i)
        connect(m, assembler.o, device.i)
        connect(m, device.o, splitter.i)
        connect(m, splitter.o, sender.i)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            fifo.w_data.eq(receiver.o.payload),
            fifo.w_en.eq(receiver.o.valid),
            receiver.o.ready.eq(fifo.w_rdy),
            assembler.i.payload.eq(buffer.o.payload),
            assembler.i.valid.eq(buffer.o.valid),
            buffer.o.ready.eq(assembler.i.ready),
            device.abandon.eq(assembler.abandon),
            assembler.abandoned.eq(device.abandoned),
            self.tx.eq(sender.tx),
            self.busy.eq(device.busy),
            self.failed.eq(device.failed),
        ]
        return m
