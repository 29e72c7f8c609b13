"""The device: a stream of request words in, a stream of response words out."""

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from tritstream.hw.compute.activation_memory import ActivationMemory
from tritstream.hw.compute.datapath import Datapath
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.lane_array import LaneType
from tritstream.hw.compute.result_banks import ResultBanks
from tritstream.hw.compute.sequencer import Sequencer
from tritstream.hw.config import DeviceConfig
from tritstream.hw.control.controller import Controller, Route
from tritstream.hw.control.loader import Loader
from tritstream.hw.framing.deframer import Deframer
from tritstream.hw.framing.framer import Framer
from tritstream.hw.interfaces import AnswerWord
from tritstream.hw.primitives.stream_buffer import StreamBuffer

__all__ = ["TritDevice"]


class TritDevice(wiring.Component):
    """Ternary GEMV accelerator, independent of bus and board.

    Accepts and sends the frames of :mod:`tritstream.hw.protocol` as words of ``lanes`` bytes, byte
    0 in the low bits. During a GEMV it takes one word per cycle. A GEMV takes ``blocks *
    block_words`` cycles (:attr:`.GemvArguments.block_words`), plus about 80 cycles for its last
    RESULT at L = 8.

    Parameters
    ----------
    config : DeviceConfig
        Build parameters.
    lane : type, optional
        Lane component, as for :class:`.LaneArray`. The frames do not depend on it.

    Members
    -------
    i : :py:`In(stream.Signature(8 * lanes))`
        Request frames.
    o : :py:`Out(stream.Signature(AnswerWord(lanes)))`
        Response frames; ``last`` marks the last word of each frame.
    abandon : :py:`In(1)`
        Request to give up the current frame, for a transport that can lose words. Must be held,
        with nothing offered at ``i``, until ``abandoned``. The response is ERROR 6 if the header of
        the frame was accepted, and ERROR 1 if only a part of the header came. A response that is
        being sent is completed.
    abandoned : :py:`Out(1)`
        No frame is being received any more.
    busy : :py:`Out(1)`
        A request is being processed or its response is being sent.
    failed : :py:`Out(1)`
        The last request was refused.
    """

    def __init__(self, config: DeviceConfig, lane: LaneType = Lane) -> None:
        self._config = config
        self._lane   = lane
        super().__init__({
            "i":         In(stream.Signature(8 * config.lanes)),
            "o":         Out(stream.Signature(AnswerWord(config.lanes))),
            "abandon":   In(1),
            "abandoned": Out(1),
            "busy":      Out(1),
            "failed":    Out(1),
        })

    @property
    def config(self) -> DeviceConfig:
        """Build parameters."""
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, columns = self._config.lanes, self._config.columns

        m.submodules.input      = source     = StreamBuffer(8 * lanes)
        m.submodules.deframer   = deframer   = Deframer(lanes)
        m.submodules.control    = control    = Controller(self._config)
        m.submodules.loader     = loader     = Loader(lanes)
        m.submodules.activation = activation = ActivationMemory(
            columns, self._config.max_k, lanes)
        m.submodules.sequencer  = sequencer  = Sequencer(lanes)
        m.submodules.datapath   = datapath   = Datapath(lanes, columns, self._lane)
        m.submodules.results    = results    = ResultBanks(lanes, columns)
        m.submodules.framer     = framer     = Framer(lanes)

        connect(m, wiring.flipped(self.i), source.i)
        connect(m, source.o, deframer.i)
        connect(m, deframer.headers, control.headers)
        connect(m, deframer.frame_status, control.frame_status)
        connect(m, control.gemv, sequencer.gemv)
        connect(m, loader.rows, activation.write)
        connect(m, datapath.activations, activation.activations)
        connect(m, datapath.rows, results.rows)
        connect(m, control.results, results.request)
        connect(m, control.requests, framer.requests)
        connect(m, results.sums, framer.sums)
        connect(m, framer.o, wiring.flipped(self.o))

        self._route(m, deframer.payload, control, loader, sequencer)
        m.d.comb += [
            # Words in the input buffer came before the request to give up.
            deframer.abandon.eq(self.abandon & ~source.o.valid),
            self.abandoned.eq(deframer.abandoned & ~source.o.valid),
            self.busy.eq(control.active),
            self.failed.eq(control.failed),

            loader.restart.eq(control.begin),
            loader.loading.eq(control.loading),
            # The opcodes of ACTIVATIONS and SCALES differ in this bit.
            loader.scales.eq(deframer.headers.p.header.opcode[1]),
            control.bad_mantissa.eq(loader.bad_mantissa),
            activation.write_column.eq(control.column),
            datapath.load.eq(loader.mantissa),
            sequencer.credit.eq(results.credit),

            activation.restart.eq(control.gemv.start),
            activation.group_last.eq(control.gemv.job.chunk_last),

            datapath.restart.eq(control.gemv.start),
            datapath.direct.eq(control.gemv.job.direct),
            datapath.beat.eq(sequencer.beat),
            datapath.word.eq(deframer.payload.p.data),

            results.restart.eq(control.gemv.start),
            results.reserve.eq(sequencer.block_end),
            control.full.eq(results.full),
            control.busy.eq(results.busy),

            framer.answer.eq(control.answer),
            control.idle.eq(framer.idle),
        ]
        return m

    def _route(self, m, payload, control, loader, sequencer):
        """Route payload words to the loader or the sequencer, or drop them."""
        m.d.comb += [
            loader.words.p.eq(payload.p),
            sequencer.words.p.eq(payload.p),
            # Each is ready while the words are not for it.
            payload.ready.eq(loader.words.ready & sequencer.words.ready),
        ]
        with m.Switch(control.route):
            with m.Case(Route.LOADER):
                m.d.comb += [
                    loader.words.valid.eq(payload.valid),
                    control.load_word.eq(payload.valid),
                ]
            with m.Case(Route.GEMV):
                m.d.comb += [
                    sequencer.words.valid.eq(payload.valid),
                    control.word.eq(sequencer.beat.valid),
                    control.word_refused.eq(payload.valid & ~sequencer.words.ready),
                    control.word_missing.eq(
                        sequencer.running & ~payload.valid & sequencer.words.ready),
                ]
