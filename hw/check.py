"""Request check: may this frame be carried out, and what has been loaded so far."""

from amaranth import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from golden.fixed import GROUP, MAX_DEPTH, SCALES

from .deframer import Header
from .protocol import ErrorCode, Opcode

__all__ = ["RequestCheck", "gemv_arguments"]

_SCALES_BYTES = 4 * SCALES


def gemv_arguments(header):
    """Depth, groups and columns in arg0 of a GEMV."""
    return header.arg0[:8], header.arg0[8:24], header.arg0[24:]


class RequestCheck(wiring.Component):
    """Compares a header with the device and with what is loaded.

    ``error`` is right :data:`LATENCY` cycles after ``header``; 0 means carry out. Whether a
    GEMV's length agrees is only known when its words have been counted
    (:class:`hw.sequencer.Sequencer`).

    Parameters
    ----------
    config : DeviceConfig

    Members
    -------
    header : :py:`In(Header)`
    error : :py:`Out(8)`
    begin_load, end_load : :py:`In(1)`
        ``header``'s load begins, which unloads its target, or has ended well.
    forget : :py:`In(1)`
        Nothing is loaded any more.
    """

    LATENCY = 2

    def __init__(self, config):
        self._config = config
        super().__init__({
            "header":     In(Header),
            "error":      Out(8),
            "begin_load": In(1),
            "end_load":   In(1),
            "forget":     In(1),
        })

    def elaborate(self, platform):
        m = Module()
        header = self.header
        opcode = header.opcode

        found  = (ErrorCode.OPCODE, ErrorCode.LENGTH, ErrorCode.DEPTH, ErrorCode.SIZE,
                  ErrorCode.NOT_LOADED)     # the first that holds is told
        faults = {code: Signal(name=f"fault_{code.name.lower()}") for code in found}
        m.d.sync += [
            faults[ErrorCode.OPCODE].eq(opcode > Opcode.RESET),
            faults[ErrorCode.LENGTH].eq(self._length_fault()),
            faults[ErrorCode.DEPTH].eq(self._depth_fault()),
            faults[ErrorCode.SIZE].eq(self._size_fault()),
        ]
        missing, unequal = self._loaded(m)
        m.d.sync += faults[ErrorCode.NOT_LOADED].eq((opcode == Opcode.GEMV) & missing)
        with m.If((opcode == Opcode.GEMV) & ~missing & unequal):
            m.d.sync += faults[ErrorCode.SIZE].eq(1)

        m.d.sync += self.error.eq(0)
        for code in reversed(found):
            with m.If(faults[code]):
                m.d.sync += self.error.eq(code)
        return m

    def _length_fault(self):
        header = self.header
        partial = header.length[:exact_log2(self._config.lanes)].any()
        return Array([
            header.length != 0,
            header.length != header.arg1,
            header.length != _SCALES_BYTES,
            (header.length == 0) | partial,
            header.length != 0,
            header.length != 0,
        ])[header.opcode[:3]]

    def _depth_fault(self):
        depth, _, _ = gemv_arguments(self.header)
        return (self.header.opcode == Opcode.GEMV) & ((depth == 0) | (depth > MAX_DEPTH))

    def _size_fault(self):
        config = self._config
        header = self.header
        _, groups, columns = gemv_arguments(header)
        k = header.arg1
        load = (header.arg0 >= config.columns) | (k == 0) | (k > config.max_k) | k[:4].any()
        gemv = ((groups == 0) | (groups > config.max_groups) | (columns == 0)
                | (columns > config.columns) | (header.arg1 == 0))
        return (((header.opcode == Opcode.ACTIVATIONS) & load)
                | ((header.opcode == Opcode.GEMV) & gemv))

    def _loaded(self, m):
        """Whether a GEMV misses a load, and whether a used column's K is another one."""
        header = self.header
        _, groups, columns = gemv_arguments(header)
        scales  = Signal()
        missing = ~scales
        unequal = 0
        with m.If(header.opcode == Opcode.SCALES):
            with m.If(self.begin_load | self.end_load):
                m.d.sync += scales.eq(self.end_load)
        for column in range(self._config.columns):
            loaded = Signal(name=f"loaded{column}")
            length = Signal(range(self._config.max_groups + 1), name=f"groups{column}")
            with m.If((header.opcode == Opcode.ACTIVATIONS) & (header.arg0 == column)):
                with m.If(self.begin_load | self.end_load):
                    m.d.sync += [loaded.eq(self.end_load), length.eq(header.arg1 // GROUP)]
            with m.If(self.forget):
                m.d.sync += loaded.eq(0)
            used = columns > column
            missing |= used & ~loaded
            unequal |= used & (length != groups)
        with m.If(self.forget):
            m.d.sync += scales.eq(0)
        return missing, unequal
