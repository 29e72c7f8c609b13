"""Formal proofs: Amaranth's Assert and Assume to a verdict of SymbiYosys, with tools from pip."""

import os
import re
import subprocess
import time
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from amaranth import ClockDomain, Elaboratable, Module
from amaranth.asserts import AnySeq
from amaranth.back import rtlil
from amaranth.hdl import Assert, Value
from amaranth.lib.wiring import Out

from tritstream.golden.cache_place import tool_environment
from tritstream.hw.tools.synth import SynthError, find_tool

__all__ = ["Counterexample", "Equal", "FormalError", "Method", "NotInductive", "Proof", "prove"]

_TAIL = 5
#: Seconds after which a proof is given up.
_LIMIT = 1800


class FormalError(RuntimeError):
    """The tools gave no verdict; the message is their last lines."""


class NotInductive(FormalError):
    """An assertion holds at first but does not follow from the cycles before: more depth or help
    from further assertions is needed, or it is false.
    """


class Counterexample(AssertionError):
    """An assertion does not hold; the message names it and the waveform that shows it."""


class Method(Enum):
    """How to prove: mode and engine of SymbiYosys."""

    #: For all time, invariants found by ABC; for control.
    PDR       = ("prove", "abc pdr")
    #: For all time, from ``depth`` cycles in which all assertions held; for arithmetic.
    INDUCTION = ("prove", "smtbmc boolector")
    #: For the first ``depth`` cycles, by boolector; or by ABC, for control.
    BOUNDED         = ("bmc", "smtbmc boolector")
    BOUNDED_CONTROL = ("bmc", "abc bmc3")


@dataclass(frozen=True)
class Proof:
    """A proof that holds; ``depth`` counts cycles and is 0 where the method has none."""

    method: Method
    depth: int
    seconds: float


class _Clocked(Elaboratable):
    """The specification with a clock; registers begin with their initial values."""

    def __init__(self, spec) -> None:
        self.domain = ClockDomain("sync", reset_less=True)
        self._spec  = spec

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync    = self.domain
        m.submodules.spec = self._spec
        return m


class Equal(Elaboratable):
    """Specification: two components with the same members give the same outputs.

    Their inputs are free and the same in every cycle. Outputs are compared from power-on, so both
    have the same latency.

    Parameters
    ----------
    first, second : Component
        For instance a vendor cell and its behavioural twin.
    assume : function of a module and ``first``, optional
        Adds :class:`~amaranth.hdl.Assume` statements on the inputs.
    """

    def __init__(self, first, second, assume=None) -> None:
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


def _leaves(component):
    """Flow and value of each port."""
    for _, member, value in component.signature.flatten(component):
        yield member.flow, Value.cast(value)


def prove(spec, folder: Path, method: Method = Method.PDR, depth: int = 0,
          libraries: tuple[str, ...] = ()) -> Proof:
    """Prove every assertion of a specification.

    Parameters
    ----------
    spec : Elaboratable
        Has no ports: what is free is :class:`~amaranth.asserts.AnySeq` or ``AnyConst``. Its domain
        ``sync`` has no reset.
    folder : Path
        Where the tools work; traces are left there.
    method : Method
    depth : int
        Cycles of a bounded proof or of an induction.
    libraries : tuple of str
        Verilog with the modules that instances in ``spec`` name: files, or as Yosys finds its own,
        ``+/ecp5/cells_sim.v``.

    Raises
    ------
    Counterexample
    NotInductive
    FormalError
    SynthError
        A tool is missing.
    """
    if (depth < 1) != (method == Method.PDR):
        raise ValueError(f"depth must be 0 for PDR and positive for others, not {depth} for "
                         f"{method.name}")
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    top = _Clocked(spec)
    (folder / "top.il").write_text(rtlil.convert(top, name="top", ports=[top.domain.clk]))
    (folder / "proof.sby").write_text(_sby(method, depth, libraries))
    _judge(folder, _run(folder))
    return Proof(method, depth, round(time.perf_counter() - began, 1))


def _sby(method, depth, libraries):
    mode, engine = method.value
    # Yosys sees little of our file system: SymbiYosys copies what is a file.
    files = [path for path in libraries if not path.startswith("+")]
    reads = [path if path not in files else Path(path).name for path in libraries]
    # Table ROMs become logic: what they hold is no state that an induction could choose.
    return "\n".join([
        "[options]", f"mode {mode}", f"timeout {_LIMIT}", "aigsmt boolector",
        *([f"depth {depth}"] if depth else []),
        "[engines]", engine,
        "[script]", "read_rtlil top.il", *(f"read_verilog {name}" for name in reads),
        "hierarchy -check -top top", "proc", "flatten", "memory_map -rom-only", "opt_clean",
        "prep -top top",
        "[files]", "top.il", *files, ""])


def _run(folder):
    """Log of SymbiYosys, which knows its tools by other names than pip."""
    tools = {name: find_tool(f"yowasp-{name}", "formal")
             for name in ("sby", "yosys", "yosys-smtbmc", "yosys-witness", "boolector")}
    # A first run compiles the tool and says so, which nobody expects in the middle of a proof.
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


def _abc():
    """The ABC that comes with pip's Yosys as a library."""
    found = find_spec("pyosys")
    if not found:
        raise SynthError("pyosys is missing: pip install 'tritstream[formal]'")
    return Path(found.origin).parent / "yosys-abc"


def _judge(folder, log):
    verdict = re.search(r"DONE \((\w+), rc=\d+\)", log)
    if verdict and verdict[1] == "PASS":
        return
    if verdict and verdict[1] == "FAIL":
        places = re.findall(r"failed assertion \S+ at (\S+) step (\d+)", log)
        told   = "; ".join(f"{place} in cycle {step}" for place, step in places)
        raise Counterexample(f"assertion fails: {told or 'not known which'}; waveform: "
                             f"{folder / 'proof' / 'engine_0' / 'trace.vcd'}")
    kind = NotInductive if verdict and verdict[1] == "UNKNOWN" else FormalError
    tail = [line.split("] ", 1)[-1] for line in log.splitlines()[-_TAIL:]]
    raise kind("\n".join([f"no verdict, see {folder / 'proof' / 'logfile.txt'}:", *tail]))
