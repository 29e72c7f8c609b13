"""What a board is, and the device that it carries by default."""

from dataclasses import dataclass, field
from importlib import import_module

from tritstream.hw.tools.synth import SynthError

__all__ = ["Board", "Family"]


@dataclass(frozen=True)
class Family:
    """What the boards of a family have in common.

    Parameters
    ----------
    pll : type, optional
        Class of :mod:`tritstream.hw.boards.pll`; without, a device runs at its board's own clock.
    options : dict
        Overrides of Amaranth's build.
    files : dict
        Text of files that they name.
    """

    pll:     type | None = None
    options: dict = field(default_factory=dict)
    files:   dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board and the device it carries by default.

    Parameters
    ----------
    name, title : str
        For commands, and for people.
    family : Family
    platform : str
        ``module:class`` of amaranth_boards.
    loader : str
        Its name for openFPGALoader.
    bridge : str
        What carries its serial line to USB.
    lanes, columns, max_k : int
        Of the device.
    clock_hz, baud : int
        Wanted clock; rate of the serial line.
    lights : dict
        Resources by ``idle``, ``busy``, ``failed``: (name, number) or (name, number, part).
    resources : tuple
        Of the board, that its platform does not have.
    """

    name:      str
    title:     str
    family:    Family
    platform:  str
    loader:    str
    bridge:    str
    lanes:     int
    columns:   int
    max_k:     int
    clock_hz:  int
    baud:      int
    lights:    dict
    resources: tuple = ()

    def make_platform(self):
        """A new Amaranth platform; raises :class:`SynthError` without the extra ``fpga``."""
        module, name = self.platform.split(":")
        try:
            platform = getattr(import_module(f"amaranth_boards.{module}"), name)()
        except ModuleNotFoundError as error:
            raise SynthError(
                "amaranth-boards is missing: pip install 'tritstream[fpga]'") from error
        platform.add_resources(self.resources)
        for file, text in self.family.files.items():
            platform.add_file(file, text)
        return platform

    def clock(self, platform, wanted):
        """PLL setting, or None, and clock for a wanted clock in Hz.

        Raises :class:`ValueError` where the board cannot make that clock.
        """
        source = int(platform.default_clk_frequency)
        if self.family.pll:
            pll = self.family.pll.make(source, wanted)
            return pll, round(pll.output)
        if wanted != source:
            raise ValueError(f"{self.name} runs at its own {source / 1e6:g} MHz, not at "
                             f"{wanted / 1e6:g}")
        return None, source
