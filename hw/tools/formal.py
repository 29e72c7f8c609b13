"""Formal proofs of Amaranth's Assert and Assume by SymbiYosys, with tools from pip."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from amaranth import ClockDomain, Elaboratable, Module
from amaranth.asserts import AnySeq
from amaranth.back import rtlil
from amaranth.hdl import Assert, Value
from amaranth.lib.wiring import Component, Flow, Out

from tritstream.golden.cache_place import tool_environment
from tritstream.hw.tools.synth import SynthError, find_tool

__all__ = ["Counterexample", "Equal", "FormalError", "Method", "NotInductive", "Proof", "prove"]

_TAIL = 5
#: Time limit of a proof in seconds.
_LIMIT = 1800


class FormalError(RuntimeError):
    """The tools gave no verdict. The message contains the last lines of their log."""


class NotInductive(FormalError):
    """An assertion was neither proven nor refuted.

    It holds in the first cycles, but does not follow from ``depth`` earlier cycles. Increase the
    depth or add assertions, unless the assertion is false.
    """


class Counterexample(AssertionError):
    """An assertion is false. The message names the assertion and a waveform that shows it."""


class Method(Enum):
    """Method of a proof: mode and engine of SymbiYosys."""

    #: Unbounded, with invariants found by ABC; suited to control logic.
    PDR       = ("prove", "abc pdr")
    #: Unbounded, by induction over ``depth`` cycles; suited to arithmetic.
    INDUCTION = ("prove", "smtbmc boolector")
    #: First ``depth`` cycles only, by boolector.
    BOUNDED         = ("bmc", "smtbmc boolector")
    #: First ``depth`` cycles only, by ABC; suited to control logic.
    BOUNDED_CONTROL = ("bmc", "abc bmc3")


@dataclass(frozen=True)
class Proof:
    """Successful proof. ``depth`` is in cycles, and 0 for a method without depth."""

    method: Method
    depth: int
    seconds: float


class _Clocked(Elaboratable):
    """Specification with a clock. Registers start with their initial values."""

    def __init__(self, spec: Elaboratable) -> None:
        self.domain = ClockDomain("sync", reset_less=True)
        self._spec  = spec

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync    = self.domain
        m.submodules.spec = self._spec
        return m


class Equal(Elaboratable):
    """Specification that two components with the same members have the same outputs.

    Both components get the same, otherwise unconstrained inputs in every cycle. Outputs are
    compared from power-on, so that both components must have the same latency.

    Parameters
    ----------
    first, second : Component
        Components, for instance a vendor cell and its reference model.
    assume : callable, optional
        Function of a module and ``first`` that adds :class:`~amaranth.hdl.Assume` statements on the
        inputs to the module.
    """

    def __init__(self, first: Component, second: Component,
                 assume: Callable[[Module, Component], None] | None = None) -> None:
        self._pair   = first, second
        self._assume = assume

    def elaborate(self, platform: object) -> Module:
        first, second = self._pair
        if first.signature != second.signature:
            raise ValueError(f"components must have the same members, not {first.signature!r} "
                             f"and {second.signature!r}")
        m = Module()
        m.submodules.first  = first
        m.submodules.second = second
        for (flow, one), (_, other) in zip(_leaves(first), _leaves(second), strict=True):
            if flow == Out:
                m.d.comb += Assert(one == other)
            else:
                m.d.comb += [one.eq(AnySeq(len(one))), other.eq(one)]
        if self._assume:
            self._assume(m, first)
        return m


def _leaves(component: Component) -> Iterator[tuple[Flow, Value]]:
    """Yield flow and value of each port."""
    for _, member, value in component.signature.flatten(component):
        yield member.flow, Value.cast(value)


def prove(spec: Elaboratable, folder: Path, method: Method = Method.PDR, depth: int = 0,
          libraries: tuple[str, ...] = ()) -> Proof:
    """Prove every assertion of a specification.

    Parameters
    ----------
    spec : Elaboratable
        Specification without ports. Free inputs are :class:`~amaranth.asserts.AnySeq` or
        ``AnyConst``. The domain ``sync`` has no reset.
    folder : Path
        Working directory of the tools, which keeps logs and traces.
    method : Method
        Method of the proof.
    depth : int
        Number of cycles of a bounded proof or of an induction; 0 for PDR.
    libraries : tuple of str
        Verilog files that define the modules of instances in ``spec``. Files of Yosys start with
        ``+/``, such as ``+/ecp5/cells_sim.v``.

    Raises
    ------
    Counterexample
        An assertion is false.
    NotInductive
        An assertion was neither proven nor refuted.
    FormalError
        The tools gave no verdict.
    SynthError
        A tool is missing.
    ValueError
        The depth does not fit the method.
    """
    if (depth < 1) != (method == Method.PDR):
        raise ValueError(f"depth must be 0 for PDR and positive for other methods, not {depth} for "
                         f"{method.name}")
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    top = _Clocked(spec)
    (folder / "top.il").write_text(rtlil.convert(top, name="top", ports=[top.domain.clk]))
    (folder / "proof.sby").write_text(_sby(method, depth, libraries))
    _judge(folder, _run(folder))
    return Proof(method, depth, round(time.perf_counter() - began, 1))


def _sby(method: Method, depth: int, libraries: tuple[str, ...]) -> str:
    mode, engine = method.value
    # Yosys sees little of the file system, so SymbiYosys must copy the files.
    files = [path for path in libraries if not path.startswith("+")]
    reads = [path if path not in files else Path(path).name for path in libraries]
    # Table ROMs become logic. Otherwise an induction could choose their contents as a state.
    return "\n".join([
        "[options]", f"mode {mode}", f"timeout {_LIMIT}", "aigsmt boolector",
        *([f"depth {depth}"] if depth else []),
        "[engines]", engine,
        "[script]", "read_rtlil top.il", *(f"read_verilog {name}" for name in reads),
        "hierarchy -check -top top", "proc", "flatten", "memory_map -rom-only", "opt_clean",
        "prep -top top",
        "[files]", "top.il", *files, ""])


def _run(folder: Path) -> str:
    """Run SymbiYosys and return its log. It is given the names that the tools have in pip."""
    tools = {name: find_tool(f"yowasp-{name}", "formal")
             for name in ("sby", "yosys", "yosys-smtbmc", "yosys-witness", "boolector")}
    # The first run of a tool compiles it and prints a message, which would disturb a proof.
    for name in ("yosys", "boolector"):
        subprocess.run([tools[name], "--version"], capture_output=True, check=True,
                       env=tool_environment())
    shims = folder / "tools"
    shims.mkdir(exist_ok=True)
    if not (shims / "boolector").is_symlink():
        (shims / "boolector").symlink_to(tools["boolector"])
    done = subprocess.run(
        [tools["sby"], "-f", "--yosys", tools["yosys"], "--smtbmc", tools["yosys-smtbmc"],
         "--witness", tools["yosys-witness"], "--abc", _abc(), "proof.sby"],
        cwd=folder, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**tool_environment(), "PATH": f"{shims.resolve()}{os.pathsep}{os.environ['PATH']}"})
    return done.stdout


def _abc() -> Path:
    """Return the ABC of the package pyosys; raise SynthError if the package is missing."""
    found = find_spec("pyosys")
    if not found or not found.origin:
        raise SynthError("pyosys is missing: pip install 'tritstream[formal]'")
    return Path(found.origin).parent / "yosys-abc"


def _judge(folder: Path, log: str) -> None:
    verdict = re.search(r"DONE \((\w+), rc=\d+\)", log)
    if verdict and verdict[1] == "PASS":
        return
    if verdict and verdict[1] == "FAIL":
        places = re.findall(r"failed assertion \S+ at (\S+) step (\d+)", log)
        named  = "; ".join(f"{place} in cycle {step}" for place, step in places)
        raise Counterexample(f"assertion fails: {named or 'location unknown'}; waveform: "
                             f"{folder / 'proof' / 'engine_0' / 'trace.vcd'}")
    kind = NotInductive if verdict and verdict[1] == "UNKNOWN" else FormalError
    tail = [line.split("] ", 1)[-1] for line in log.splitlines()[-_TAIL:]]
    raise kind("\n".join([f"no verdict, see {folder / 'proof' / 'logfile.txt'}:", *tail]))
