"""PLLs: settings for a requested clock, within the limits of the data sheet.

Sources: Lattice FPGA-DS-02012, ECP5 and ECP5-5G Family Data Sheet; FPGA-DS-02008, iCE40 UltraPlus
Family Data Sheet; FPGA-TN-02052, iCE40 sysCLOCK PLL Design and Usage Guide. AMD DS181, Artix-7 Data
Sheet (speed grade -1); UG472, 7 Series FPGAs Clocking Resources. Cologne Chip UG1001, GateMate
Primitives Library.
"""

from dataclasses import dataclass
from itertools import product
from typing import Self

from amaranth import Instance, Module, Signal
from amaranth.lib import io

__all__ = ["Ecp5Pll", "GateMatePll", "Ice40Pll", "Pll", "Xc7Pll"]

_MHZ = 1_000_000
#: Largest relative error of the clock.
_TOLERANCE = 0.02


def _nearest(settings, wanted, what):
    """Return the setting with the output nearest to ``wanted`` in Hz, the first of equal ones."""
    best = min(settings, key=lambda pll: abs(pll.output - wanted), default=None)
    if best is None:
        raise ValueError(f"{what} cannot generate {wanted / _MHZ:g} MHz: its input clock is out of "
                         "range")
    if abs(best.output - wanted) > _TOLERANCE * wanted:
        raise ValueError(f"{what} cannot generate {wanted / _MHZ:g} MHz; the nearest clock is "
                         f"{best.output / _MHZ:.3f} MHz")
    return best


@dataclass(frozen=True)
class Ecp5Pll:
    """EHXPLLL with feedback from its output: ``output = source / div * feedback``.

    Parameters
    ----------
    source : int
        Input clock in Hz.
    div, feedback, post : int
        Dividers of the input clock, of the feedback, and from the oscillator to the output.
    """

    source:   int
    div:      int
    feedback: int
    post:     int

    #: Limits in Hz of the phase detector and of the oscillator.
    DETECTOR   = (3_125_000, 400 * _MHZ)
    OSCILLATOR = (400 * _MHZ, 800 * _MHZ)

    @classmethod
    def make(cls, source: int, wanted: int) -> Self:
        """Return the setting for a clock in Hz; raise :class:`ValueError` if it is over 2 % off."""
        found = (cls(source, div, feedback, post)
                 for div, feedback in product(range(1, 129), repeat=2)
                 if cls.DETECTOR[0] <= source / div <= cls.DETECTOR[1]
                 for post in [min(max(1, round(600 * _MHZ / (source / div * feedback))), 128)]
                 if cls.OSCILLATOR[0] <= source / div * feedback * post <= cls.OSCILLATOR[1])
        return _nearest(found, wanted, f"the PLL of an ECP5 at {source / _MHZ:g} MHz")

    @property
    def output(self) -> float:
        """Output clock in Hz."""
        return self.source / self.div * self.feedback

    @property
    def oscillator(self) -> float:
        """Oscillator frequency in Hz."""
        return self.output * self.post

    def connect(self, m: Module, port: io.PortLike, clock: Signal, lock: Signal) -> None:
        """Add the PLL between the pin and ``clock``; ``lock`` is set when the clock is stable."""
        m.submodules.clock_pin = pin = io.Buffer("i", port)
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{self.source / _MHZ:g}",
            a_FREQUENCY_PIN_CLKOP=f"{self.output / _MHZ:g}",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED", p_FEEDBK_PATH="CLKOP",
            p_OUTDIVIDER_MUXA="DIVA", p_CLKOP_ENABLE="ENABLED",
            p_CLKI_DIV=self.div, p_CLKFB_DIV=self.feedback, p_CLKOP_DIV=self.post,
            p_CLKOP_CPHASE=self.post - 1, p_CLKOP_FPHASE=0,
            i_CLKI=pin.i, i_CLKFB=clock, i_RST=0, i_STDBY=0, i_PHASESEL0=0, i_PHASESEL1=0,
            i_PHASEDIR=1, i_PHASESTEP=1, i_PHASELOADREG=1, i_PLLWAKESYNC=0, i_ENCLKOP=0,
            o_CLKOP=clock, o_LOCK=lock)


@dataclass(frozen=True)
class Ice40Pll:
    """SB_PLL40_PAD with simple feedback: ``output = source / (r + 1) * (f + 1) / 2^q``.

    Parameters
    ----------
    source : int
        Input clock in Hz, at the dedicated pin of the PLL.
    r, f, q : int
        DIVR, DIVF and DIVQ: dividers of the input clock, of the feedback and of the output.
    """

    source: int
    r:      int
    f:      int
    q:      int

    #: Limits in Hz of the phase detector and of the oscillator.
    DETECTOR   = (10 * _MHZ, 133 * _MHZ)
    OSCILLATOR = (533 * _MHZ, 1066 * _MHZ)
    #: Upper limits in Hz of the phase detector for filter ranges 1 to 5. Above, the range is 6.
    _FILTERS = tuple(limit * _MHZ for limit in (17, 26, 44, 66, 101))

    @classmethod
    def make(cls, source: int, wanted: int) -> Self:
        """Return the setting for a clock in Hz; raise :class:`ValueError` if it is over 2 % off."""
        found = (cls(source, r, f, q)
                 for r, f, q in product(range(16), range(128), range(1, 7))
                 if cls.DETECTOR[0] <= source / (r + 1) <= cls.DETECTOR[1]
                 and cls.OSCILLATOR[0] <= source / (r + 1) * (f + 1) <= cls.OSCILLATOR[1])
        return _nearest(found, wanted, f"the PLL of an iCE40 at {source / _MHZ:g} MHz")

    @property
    def output(self) -> float:
        """Output clock in Hz."""
        return self.oscillator / 2 ** self.q

    @property
    def oscillator(self) -> float:
        """Oscillator frequency in Hz."""
        return self.source / (self.r + 1) * (self.f + 1)

    @property
    def filter_range(self) -> int:
        """Bandwidth setting of the loop filter, 1..6."""
        return 1 + sum(self.source / (self.r + 1) >= limit for limit in self._FILTERS)

    def connect(self, m: Module, port: io.PortLike, clock: Signal, lock: Signal) -> None:
        """Add the PLL between the pin and ``clock``; ``lock`` is set when the clock is stable."""
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE", p_PLLOUT_SELECT="GENCLK",
            p_DIVR=self.r, p_DIVF=self.f, p_DIVQ=self.q, p_FILTER_RANGE=self.filter_range,
            i_PACKAGEPIN=port.io, i_RESETB=1, i_BYPASS=0,
            o_PLLOUTGLOBAL=clock, o_LOCK=lock)


@dataclass(frozen=True)
class Xc7Pll:
    """PLLE2_BASE of a 7-series FPGA: ``output = source / div * mult / post``.

    Parameters
    ----------
    source : int
        Input clock in Hz.
    div, mult, post : int
        Dividers of the input clock, of the feedback and of the output.
    """

    source: int
    div:    int
    mult:   int
    post:   int

    #: Limits in Hz of the phase detector and of the oscillator.
    DETECTOR   = (19 * _MHZ, 450 * _MHZ)
    OSCILLATOR = (800 * _MHZ, 1600 * _MHZ)

    @classmethod
    def make(cls, source: int, wanted: int) -> Self:
        """Return the setting for a clock in Hz; raise :class:`ValueError` if it is over 2 % off."""
        found = (cls(source, div, mult, min(max(1, round(source / div * mult / wanted)), 128))
                 for div, mult in product(range(1, 57), range(2, 65))
                 if cls.DETECTOR[0] <= source / div <= cls.DETECTOR[1]
                 and cls.OSCILLATOR[0] <= source / div * mult <= cls.OSCILLATOR[1])
        return _nearest(found, wanted, f"the PLL of a 7-series FPGA at {source / _MHZ:g} MHz")

    @property
    def output(self) -> float:
        """Output clock in Hz."""
        return self.oscillator / self.post

    @property
    def oscillator(self) -> float:
        """Oscillator frequency in Hz."""
        return self.source / self.div * self.mult

    def connect(self, m: Module, port: io.PortLike, clock: Signal, lock: Signal) -> None:
        """Add the PLL between the pin and ``clock``; ``lock`` is set when the clock is stable."""
        m.submodules.clock_pin = pin = io.Buffer("i", port)
        output, feedback = Signal(), Signal()
        m.submodules.pll = Instance(
            "PLLE2_BASE",
            p_CLKIN1_PERIOD=1e9 / self.source, p_DIVCLK_DIVIDE=self.div, p_CLKFBOUT_MULT=self.mult,
            p_CLKOUT0_DIVIDE=self.post,
            i_CLKIN1=pin.i, i_CLKFBIN=feedback, i_RST=0, i_PWRDWN=0,
            o_CLKFBOUT=feedback, o_CLKOUT0=output, o_LOCKED=lock)
        m.submodules.clock_net = Instance("BUFG", i_I=output, o_O=clock)


@dataclass(frozen=True)
class GateMatePll:
    """CC_PLL, whose dividers nextpnr chooses.

    Parameters
    ----------
    source, output : int
        Input and output clock in Hz.
    """

    source: int
    output: int

    #: Limits in Hz of the input and of the output in the mode SPEED.
    INPUT, OUTPUT = (5 * _MHZ, 50 * _MHZ), (2 * _MHZ, 416 * _MHZ)

    @classmethod
    def make(cls, source: int, wanted: int) -> Self:
        """Return the setting for a clock in Hz; raise :class:`ValueError` if it is out of range."""
        for what, clock, (low, high) in (
                ("input", source, cls.INPUT), ("output", wanted, cls.OUTPUT)):
            if not low <= clock <= high:
                raise ValueError(f"the {what} of the PLL of a GateMate must be {low / _MHZ:g} to "
                                 f"{high / _MHZ:g} MHz, not {clock / _MHZ:g} MHz")
        return cls(source, wanted)

    def connect(self, m: Module, port: io.PortLike, clock: Signal, lock: Signal) -> None:
        """Add the PLL between the pin and ``clock``; ``lock`` is set when the clock is stable."""
        m.submodules.clock_pin = pin = io.Buffer("i", port)
        m.submodules.pll = Instance(
            "CC_PLL", p_REF_CLK=f"{self.source / _MHZ}", p_OUT_CLK=f"{self.output / _MHZ}",
            p_PERF_MD="SPEED", p_LOCK_REQ=1, p_LOW_JITTER=1, p_CI_FILTER_CONST=2,
            p_CP_FILTER_CONST=4, i_CLK_REF=pin.i, i_CLK_FEEDBACK=0, i_USR_CLK_REF=0,
            i_USR_LOCKED_STDY_RST=0, o_USR_PLL_LOCKED=lock, o_CLK0=clock)


#: PLL of any family.
Pll = Ecp5Pll | GateMatePll | Ice40Pll | Xc7Pll
