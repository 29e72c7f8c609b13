"""Request check: validates request headers and tracks which operands are loaded."""

from amaranth import Array, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.data import View
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tritstream.golden.fixed_point import GROUP, MAX_DEPTH, SCALES
from tritstream.hw.config import DeviceConfig
from tritstream.hw.interfaces import GemvFields, Header
from tritstream.hw.protocol import ErrorCode, Opcode, longest_group

__all__ = ["RequestCheck", "gemv_arguments"]

_SCALES_BYTES = 4 * SCALES


def gemv_arguments(header: View) -> View:
    """Return the fields of arg0 and arg1 of a GEMV header."""
    return View(GemvFields, Cat(header.arg0, header.arg1))


class RequestCheck(wiring.Component):
    """Check of a request header against the device parameters and the loaded operands.

    ``error`` is valid :data:`LATENCY` cycles after ``header``. The payload length of a GEMV is not
    checked here, except that it must consist of complete words:
    :class:`tritstream.hw.compute.sequencer.Sequencer` counts the words.

    Parameters
    ----------
    config : DeviceConfig
        Build parameters.

    Members
    -------
    header : :py:`In(Header)`
        Header of the request.
    error : :py:`Out(8)`
        :class:`.ErrorCode`, or 0 if the request is valid.
    begin_load, end_load : :py:`In(1)`
        The load of ``header`` starts, which invalidates its target; the load was successful.
    forget : :py:`In(1)`
        Mark all operands as not loaded.
    """

    #: Cycles from ``header`` to ``error``.
    LATENCY = 3

    def __init__(self, config: DeviceConfig) -> None:
        self._config = config
        super().__init__({
            "header":     In(Header),
            "error":      Out(8),
            "begin_load": In(1),
            "end_load":   In(1),
            "forget":     In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        found  = (ErrorCode.OPCODE, ErrorCode.LENGTH, ErrorCode.DEPTH, ErrorCode.SIZE,
                  ErrorCode.NOT_LOADED)     # the first fault is reported
        faults = {code: Signal(name=f"fault_{code.name.lower()}") for code in found}
        m.d.sync += [
            faults[ErrorCode.OPCODE].eq(self.header.opcode > Opcode.RESET),
            faults[ErrorCode.LENGTH].eq(self._length_fault(m)),
            faults[ErrorCode.DEPTH].eq(self._depth_fault(m)),
            faults[ErrorCode.SIZE].eq(self._size_fault(m)),
        ]
        missing, unequal = self._loaded(m)
        gemv = self._is(m, Opcode.GEMV)
        m.d.sync += faults[ErrorCode.NOT_LOADED].eq(gemv & missing)
        with m.If(gemv & ~missing & unequal):
            m.d.sync += faults[ErrorCode.SIZE].eq(1)

        m.d.sync += self.error.eq(0)
        for code in reversed(found):
            with m.If(faults[code]):
                m.d.sync += self.error.eq(code)
        return m

    def _length_fault(self, m):
        length  = self.header.length
        partial = length[:exact_log2(self._config.lanes)].any()
        some    = _late(m, length != 0, "some")
        return Array([
            some,
            _late(m, length != self.header.arg1, "not_k"),
            _late(m, length != _SCALES_BYTES, "not_scales"),
            ~some | partial,
            some,
            some,
        ])[self.header.opcode[:3]]

    def _depth_fault(self, m):
        depth = gemv_arguments(self.header).depth
        return self._is(m, Opcode.GEMV) & _late(m, (depth == 0) | (depth > MAX_DEPTH), "depth")

    def _size_fault(self, m):
        config = self._config
        header = self.header
        fields = gemv_arguments(header)
        chunks, columns = fields.chunks, fields.columns
        k = header.arg1
        load = (_late(m, header.arg0 >= config.columns, "no_column") | _late(m, k == 0, "nothing")
                | _late(m, k > config.max_k, "long") | k[:4].any())
        # A depth of four has zeros in the bits that select, and a wrong depth is another fault.
        lengths = Array(fields.length_last >= longest_group(depth)
                        for depth in (MAX_DEPTH, *range(1, MAX_DEPTH)))
        gemv = (_late(m, (chunks == 0) | (chunks > config.max_groups), "chunks")
                | _late(m, (columns == 0) | (columns > config.columns), "columns")
                | _late(m, fields.blocks == 0, "no_block")
                | _late(m, lengths[fields.depth[:2]], "long_group"))
        return (self._is(m, Opcode.ACTIVATIONS) & load) | (self._is(m, Opcode.GEMV) & gemv)

    def _is(self, m, code):
        return _late(m, self.header.opcode == code, code.name.lower())

    def _loaded(self, m):
        """Return whether a GEMV needs an operand that is not loaded, and whether K differs."""
        header = self.header
        fields  = gemv_arguments(header)
        scales  = Signal()
        missing = ~scales & ~fields.direct
        unequal = 0
        with m.If(self._is(m, Opcode.SCALES)):
            with m.If(self.begin_load | self.end_load):
                m.d.sync += scales.eq(self.end_load)
        for column in range(self._config.columns):
            loaded = Signal(name=f"loaded{column}")
            length = Signal(range(self._config.max_groups + 1), name=f"groups{column}")
            with m.If(self._is(m, Opcode.ACTIVATIONS)
                      & _late(m, header.arg0 == column, f"of{column}")):
                with m.If(self.begin_load | self.end_load):
                    m.d.sync += [loaded.eq(self.end_load), length.eq(header.arg1 // GROUP)]
            with m.If(self.forget):
                m.d.sync += loaded.eq(0)
            used = _late(m, fields.columns > column, f"used{column}")
            missing |= used & ~loaded
            unequal |= used & _late(m, length != fields.chunks, f"other{column}")
        with m.If(self.forget):
            m.d.sync += scales.eq(0)
        return missing, unequal


def _late(m, condition, name):
    """Return the condition, registered: the header is stable, and this shortens the paths."""
    late = Signal(name=name)
    m.d.sync += late.eq(condition)
    return late
