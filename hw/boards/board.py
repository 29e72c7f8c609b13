"""Description of a board, and of the device that it carries by default."""

from dataclasses import dataclass, field
from importlib import import_module

from amaranth.build import Platform

from tritstream.hw.boards.pll import Pll
from tritstream.hw.tools.synth import SynthError

__all__ = ["Board", "Family"]


@dataclass(frozen=True)
class Family:
    """Common properties of the boards with one FPGA family.

    Parameters
    ----------
    pll : type, optional
        Class of :mod:`tritstream.hw.boards.pll`. Without a PLL, the device runs at the clock of the
        board.
    options : dict
        Overrides of build options of Amaranth.
    files : dict
        Text of the files that ``options`` refer to, by file name.
    vivado : str, optional
        Family in Yosys, of boards that are built by Vivado.
    """

    pll:     type[Pll] | None = None
    options: dict = field(default_factory=dict)
    files:   dict = field(default_factory=dict)
    vivado:  str | None = None


@dataclass(frozen=True, kw_only=True)
class Board:
    """Board, and the device that it carries by default.

    Parameters
    ----------
    name, title : str
        Name in commands, and full name with the FPGA part.
    family : Family
        Properties of the FPGA family.
    platform : str or type
        Platform class, or ``module:class`` in amaranth_boards.
    loader : str
        Name of the board in openFPGALoader.
    bridge : str
        Chip that connects the serial line to USB.
    lanes, columns, max_k : int
        Parameters of the device, see :class:`.DeviceConfig`.
    clock_hz : int
        Requested clock frequency in Hz.
    baud : int
        Rate of the serial line in bit/s.
    lights : dict
        Resource of each of the LEDs ``idle``, ``busy`` and ``failed`` that the board has: (name,
        number) or (name, number, part).
    resources : tuple
        Resources of the board that its platform lacks.
    cells : dict
        What the FPGA has, by column of :func:`.synthesized_area`, of boards that are built by
        Vivado.
    """

    name:      str
    title:     str
    family:    Family
    platform:  str | type[Platform]
    loader:    str
    bridge:    str
    lanes:     int
    columns:   int
    max_k:     int
    clock_hz:  int
    baud:      int
    lights:    dict
    resources: tuple = ()
    cells:     dict[str, int] = field(default_factory=dict)

    def make_platform(self) -> Platform:
        """Return a new Amaranth platform; raise :class:`.SynthError` without the extra ``fpga``."""
        kind = _find(self.platform) if isinstance(self.platform, str) else self.platform
        platform = (_with_rtlil(kind) if self.family.vivado else kind)()
        platform.add_resources(self.resources)
        for file, text in self.family.files.items():
            platform.add_file(file, text)
        return platform

    def clock(self, platform: Platform, wanted: int) -> tuple[Pll | None, int]:
        """Return the PLL setting, or None, and the actual clock for a requested clock, all in Hz.

        Raises :class:`ValueError` if the board cannot generate the requested clock.
        """
        source = int(platform.default_clk_frequency)
        if self.family.pll:
            pll = self.family.pll.make(source, wanted)
            return pll, round(pll.output)
        if wanted != source:
            raise ValueError(f"{self.name} has no PLL: its clock is {source / 1e6:g} MHz, not "
                             f"{wanted / 1e6:g} MHz")
        return None, source


def _find(platform: str) -> type[Platform]:
    module, name = platform.split(":")
    try:
        return getattr(import_module(f"amaranth_boards.{module}"), name)
    except ModuleNotFoundError as error:
        raise SynthError("amaranth-boards is missing: pip install 'tritstream[fpga]'") from error


def _with_rtlil(kind: type[Platform]) -> type[Platform]:
    """Return a platform for Vivado whose builds also have the design in RTLIL, as all others do."""
    class WithRtlil(kind):
        @property
        def file_templates(self):
            return {**super().file_templates, "{{name}}.il": "{{emit_rtlil()}}"}

    return WithRtlil
