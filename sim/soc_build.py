"""Compile the system of a board into a shared library with LiteX and Verilator; cached."""

import hashlib
import re
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tritstream.golden.cache_entry import cached
from tritstream.golden.cache_place import scratch
from tritstream.hw.config import DeviceConfig
from tritstream.hw.soc.litex_log import quiet
from tritstream.hw.tools.core_export import core_verilog
from tritstream.hw.tools.export import sources_digest
from tritstream.sim.build import BuildError, compile_model, engine

__all__ = ["SocBuild", "SocChoice", "build_soc"]

_HERE  = Path(__file__).parent
_SOURCES = _HERE.parent / "hw" / "soc"
_TOOLS = ("amaranth", "litex", "litedram", "liteeth", "migen")


@dataclass(frozen=True)
class SocChoice:
    """Configuration of the simulated system.

    Parameters
    ----------
    memory : str
        Name of :data:`tritstream.hw.soc.memory.MEMORIES`.
    rows : int, optional
        Rows per bank, if the complete memory is not needed.
    max_k : int
        Length of the longest activation vector that the core stores.
    columns : int
        Activation vectors per pass of the core.
    checks : bool
        Check the timing of every memory command; the simulation then takes twice as long.
    link : bool
        Include Ethernet.
    changes : dict
        Fields of :class:`tritstream.hw.soc.memory.Memory` that differ from the named memory.
    parts : dict
        Arguments of :class:`.BoardSoC`; ``controller`` holds settings of LiteDRAM's controller.
    """

    memory:  str
    rows:    int | None = None
    max_k:   int = 32768
    columns: int = 1
    checks:  bool = True
    link:    bool = True
    changes: dict = field(default_factory=dict)
    parts:   dict = field(default_factory=dict)


@dataclass(frozen=True)
class SocBuild:
    """A compiled system.

    Parameters
    ----------
    library : Path
    word : int
        Bytes of a word of memory.
    lanes : int
    clock_hz : int
    refresh_cycles : int
        tREFI.
    engine : str
        Simulator and compiler, for reports.
    """

    library:  Path
    word:     int
    lanes:    int
    clock_hz: int
    refresh_cycles: int
    engine:   str


def build_soc(choice: SocChoice) -> SocBuild:
    """Compile the system of a board, or return the cached build.

    Raises :class:`.BuildError` without the extra ``litex``, or if a tool fails.
    """
    versions = [_version(name) for name in _TOOLS]
    from tritstream.hw.soc.memory import find_memory
    memory = replace(find_memory(choice.memory), rows=choice.rows, **choice.changes)
    settings = memory.phy_settings()
    config = DeviceConfig(memory.lanes, choice.columns, choice.max_k, memory.clock_hz,
                          build_id=None)
    sources = [path.read_bytes() for path in (*sorted(_SOURCES.glob("*.py")), _HERE / "soc.cpp")]
    key = repr((sources_digest(), config, sources, asdict(choice), engine(), versions))
    word = settings.dfi_databits * settings.nphases // 8

    def compiled() -> bytes:
        files = {"top.sv": _system(memory, choice), "core.v": core_verilog(config)}
        flags = [f"-DWIDE={word}", *(["-DLINK"] if choice.link else [])]
        with scratch() as folder:
            return compile_model(folder, files, _HERE / "soc.cpp", flags).read_bytes()

    stem = f"soc-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    library = cached(stem, ".so", compiled)
    return SocBuild(library, word, memory.lanes, memory.clock_hz,
                    memory.module.timing_settings.tREFI, engine())


def _system(memory, choice):
    """SystemVerilog of everything except the core."""
    from tritstream.hw.soc.simulated import SimulatedSoC, soc_verilog
    with quiet():
        text = soc_verilog(SimulatedSoC(memory, choice.checks, choice.link, **choice.parts))
    # LiteDRAM's sum of late refreshes is useless here, because early refreshes increase it.
    text = re.sub(r'\$display\("[^"]*tREFI violation \(64ms period\)[^;]*\);', "", text)
    # Count violations instead of printing them.
    text = re.sub(r'\$display\("\[%016dps\] ([^"]*?)(?: on bank %0d)?"[^;]*\);',
                  r'violation("\1");', text)
    return 'import "DPI-C" function void violation(input string what);\n' + text


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        raise BuildError(f"{name} is missing: pip install 'tritstream[litex]'") from None
