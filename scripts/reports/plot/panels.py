"""Panels of the waveform: signals of the device around the end of a group and two stalls."""

from dataclasses import asdict, dataclass
from pathlib import Path

from tritstream.golden.fixed_point import GROUP
from tritstream.hw.interfaces import SKEW
from tritstream.scripts.reports.plot.scene import DEPTH, GROUPS, LANES, record
from tritstream.scripts.reports.plot.traces import read_traces

__all__ = ["VCD", "collect"]

VCD = Path("build/plot/waveform.vcd")

_CLOCK  = "bench.top.clk"
_DEVICE = "bench.top.dut."
#: Signals by name: path in the device, and number of bits if signed.
_SIGNALS = {
    "valid":       ("sequencer.words__valid", 0),
    "ready":       ("sequencer.words__ready", 0),
    "word":        ("sequencer.words__payload.data", 0),
    "running":     ("sequencer.running", 0),
    "place":       ("sequencer.place", 0),
    "digit":       ("sequencer.digit", 0),
    "taken":       ("sequencer.beat.valid", 0),
    "first":       ("sequencer.beat.first", 0),
    "scale_first": ("sequencer.beat.scale_start", 0),
    "block_end":   ("sequencer.block_end", 0),
    "out_valid":   ("datapath.buffer.o.valid", 0),
    "out_weight":  ("datapath.buffer.o.weight", 0),
    "out_first":   ("datapath.buffer.o.first", 0),
    "x":           ("datapath.array.x__0", 8),
    "scaled":      ("datapath.array.live0", 13),
    "clear":       ("datapath.array.lane0_0.clear__0", 0),
    "sum0":        ("datapath.array.lane0_0.sums__0", 18),
    "sum1":        ("datapath.array.lane0_0.sums__1", 18),
    "turn_valid":  ("datapath.slots.slots__0.valid", 0),
    "turn":        ("datapath.slots.slots__0.index", 0),
    "mantissa_on": ("datapath.slots.slots__7.valid", 0),
    "mantissa":    ("datapath.unit0_0_0.mantissa", 0),
    "product_on":  ("datapath.slots.slots__10.valid", 0),
    "product":     ("datapath.unit0_0_0.multiplier.product", 36),
    "row_sum":     ("datapath.unit0_0_0.row_sum", 46),
    "slot_valid":  ("results.rows__slot.valid", 0),
    "slot":        ("results.rows__slot.index", 0),
    "slot_last":   ("results.rows__slot.last", 0),
    "credit":      ("results.credit", 0),
    "free":        ("results.free", 0),
    "input_stalls":  ("control.input_stalls", 0),
    "output_stalls": ("control.output_stalls", 0),
    "answer_valid": ("framer.sealer.o__valid", 0),
    "answer_ready": ("framer.sealer.o__ready", 0),
}


@dataclass(frozen=True)
class _Row:
    """Line of a panel: levels of one bit, or texts of a bus, with None where it is invalid."""

    name:   str
    kind:   str
    values: list


@dataclass(frozen=True)
class _Mark:
    """Marked cycles of a panel, from ``start`` to ``stop - 1``, with a text above them."""

    start: int
    stop:  int
    text:  str


@dataclass(frozen=True)
class _Panel:
    """Rows that start at cycle ``first``; a group ends before cycle ``edge``."""

    title: str
    first: int
    rows:  list
    marks: list
    edge:  int | None = None


def collect(root: Path) -> dict:
    """Simulate the device, and return the panels from its waveform in :data:`VCD`.

    ``root`` is unused, because the data come from a new simulation.
    """
    record(VCD)
    note    = f"RTL in Amaranth's simulator: L = {LANES}, d = {DEPTH}, K = {GROUP * GROUPS}"
    signals = _signals(VCD)
    return {"note": note, "panels": [asdict(panel) for panel in _panels(signals)]}


def _signals(path: Path) -> dict[str, list[int]]:
    """Values by name, starting at the first cycle in which a GEMV runs."""
    names  = {name: _DEVICE + place for name, (place, _) in _SIGNALS.items()}
    traces = read_traces(path, _CLOCK, list(names.values()))
    begin  = traces[names["running"]].index(1)
    return {name: [_signed(value, bits) for value in traces[names[name]][begin:]]
            for name, (_, bits) in _SIGNALS.items()}


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if bits and value >> (bits - 1) else value


def _panels(of: dict[str, list[int]]) -> list[_Panel]:
    edge  = of["block_end"].index(1)
    short = _first(of, lambda cycle: of["running"][cycle] and not of["valid"][cycle])
    full  = _first(of, lambda cycle: of["valid"][cycle] and not of["ready"][cycle])
    return [_boundary(of, edge), _input_stall(of, short), _output_stall(of, full)]


def _first(of, holds) -> int:
    return next(cycle for cycle in range(len(of["valid"])) if holds(cycle))


def _boundary(of, edge: int) -> _Panel:
    window = range(edge - 4, edge + 20)
    stored = [a & b for a, b in zip(of["slot_valid"], of["slot_last"], strict=True)]
    rows = [
        *_arrival(of, window),
        _bit("new activation", of["first"], window),
        _bit("first scale beat", of["scale_first"], window),
        _bus("beat at the lanes", _kinds(of), window),
        _bus("x", of["x"], window),
        _bus("x · 3ⁱ, one cycle later", of["scaled"], window),
        _bit("lane 0, row 0: clear", of["clear"], window),
        _bus("lane 0, row 0: sum", of["sum0"], window),
        _bus("lane 0, row 1: sum", of["sum1"], window),
        _bus("scale unit: turn (row.lane)", _turns(of), window),
        _bus("scale unit: mantissa", _where(of, "mantissa_on", "mantissa"), window),
        _bus("scale unit: product", _where(of, "product_on", "product"), window),
        _bus("scale unit: row sum", _where(of, "slot_valid", "row_sum"), window),
        _bit("row sum into a result bank", stored, window),
    ]
    return _Panel("The end of a group, here also of a row block", window.start, rows, [
        _Mark(edge - 2, edge + 1, "scale beats")], edge + 1)


def _input_stall(of, short: int) -> _Panel:
    window = range(short - 3, short + 21)
    rows = [
        *_arrival(of, window),
        _bus("beat at the lanes", _kinds(of), window),
        _bus("x · 3ⁱ, one cycle later", of["scaled"], window),
        _bus("lane 0, row 0: sum", of["sum0"], window),
    ]
    gaps  = [cycle for cycle in window if of["running"][cycle] and not of["valid"][cycle]]
    marks = [_Mark(start, stop, "no word") for start, stop in _runs(gaps)]
    title = "Input stall: the source pauses, twice; DONE counts {} cycles"
    return _Panel(title.format(max(of["input_stalls"])), window.start, rows, marks)


def _output_stall(of, full: int) -> _Panel:
    window = range(full - 5, full + 19)
    rows = [
        *_arrival(of, window),
        _bit("last beat of a row block", of["block_end"], window),
        _bus("free result banks", of["free"], window),
        _bit("answer valid", of["answer_valid"], window),
        _bit("answer ready (slow sink)", of["answer_ready"], window),
    ]
    held = [cycle for cycle in window if of["valid"][cycle] and not of["ready"][cycle]]
    marks = [_Mark(start, stop, "the block's last beat is held") for start, stop in _runs(held)]
    title = "Output stall: both result banks are taken, the sink is slow; DONE counts {} cycles"
    return _Panel(title.format(max(of["output_stalls"])), window.start, rows, marks)


def _arrival(of, window) -> list[_Row]:
    """Handshake of a word, and its meaning according to the sequencer."""
    # The sequencer counts the three scale beats from 13 to 15.
    names = [f"s{digit - 13}" if digit > 3 else f"w{place}.{digit}"
             for place, digit in zip(of["place"], of["digit"], strict=True)]
    return [
        _bit("word valid", of["valid"], window),
        _bit("word ready", of["ready"], window),
        _bus("word", [f"{word:04x}" if valid else None for word, valid in zip(
            of["word"], of["valid"], strict=True)], window),
        _bus("beat", [name if taken else None for name, taken in zip(
            names, of["taken"], strict=True)], window),
    ]


def _kinds(of) -> list[str | None]:
    """Kind of each beat from the buffer: first or later digit of a weight, or of a scale."""
    return [None if not valid else "s" if not weight else "w.0" if first else "w.1"
            for valid, weight, first in zip(
                of["out_valid"], of["out_weight"], of["out_first"], strict=True)]


def _turns(of) -> list[str | None]:
    """Row and lane whose sum is taken; a unit has three slots per row for any number of lanes."""
    names = [f"{row}.{lane}" if lane < LANES else "–"
             for row, lane in (divmod(turn, SKEW) for turn in of["turn"])]
    return [name if valid else None
            for name, valid in zip(names, of["turn_valid"], strict=True)]


def _where(of, condition: str, name: str) -> list[int | None]:
    return [value if holds else None
            for holds, value in zip(of[condition], of[name], strict=True)]


def _runs(cycles: list[int]) -> list[tuple[int, int]]:
    """Runs of consecutive cycles, as (start, stop)."""
    starts = [cycle for cycle in cycles if cycle - 1 not in cycles]
    stops  = [cycle + 1 for cycle in cycles if cycle + 1 not in cycles]
    return list(zip(starts, stops, strict=True))


def _bit(name: str, values: list[int], window: range) -> _Row:
    return _Row(name, "bit", [values[cycle] for cycle in window])


def _bus(name: str, values: list, window: range) -> _Row:
    return _Row(name, "bus", [None if values[cycle] is None else str(values[cycle])
                              for cycle in window])
