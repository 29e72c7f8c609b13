"""Platforms of boards that amaranth_boards does not have. Only the pins that a device uses.

Sources of the pins: litex-boards (``colorlight_i5``, ``sipeed_tang_nano_20k``,
``sipeed_tang_primer_25k``), and the schematics that it names.
"""

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
from amaranth.vendor import GowinPlatform, LatticeECP5Platform

__all__ = ["ColorlightI5", "ColorlightI9", "TangNano20k", "TangPrimer25k"]


def _clock(name: str, pin: str, hz: float, attrs: Attrs) -> Resource:
    return Resource(name, 0, Pins(pin, dir="i"), Clock(hz), attrs)


def _uart(rx: str, tx: str, attrs: Attrs) -> Resource:
    return Resource("uart", 0, Subsignal("rx", Pins(rx, dir="i")),
                    Subsignal("tx", Pins(tx, dir="o")), attrs)


_LATTICE = Attrs(IO_TYPE="LVCMOS33")


class ColorlightI5(LatticeECP5Platform):
    """Colorlight i5 v7.0 on the extension board of Muse Lab, whose DAPLink has the serial line."""

    device, package, speed = "LFE5U-25F", "BG381", "6"
    default_clk = "clk25"
    resources   = (_clock("clk25", "P3", 25e6, _LATTICE), _uart("H18", "J17", _LATTICE),
                   Resource("led", 0, PinsN("U16", dir="o"), _LATTICE))
    connectors  = ()


class ColorlightI9(ColorlightI5):
    """Colorlight i9 v7.2 on the same extension board."""

    device    = "LFE5U-45F"
    resources = (*ColorlightI5.resources[:2], Resource("led", 0, PinsN("L2", dir="o"), _LATTICE))


_GOWIN = Attrs(IO_TYPE="LVCMOS33")


class TangNano20k(GowinPlatform):
    """Sipeed Tang Nano 20K."""

    part, family   = "GW2AR-LV18QN88C8/I7", "GW2AR-18C"
    default_clk    = "clk27"
    resources      = (_clock("clk27", "4", 27e6, _GOWIN), _uart("70", "69", _GOWIN),
                      *(Resource("led", number, PinsN(str(15 + number), dir="o"), _GOWIN)
                        for number in range(3)))
    connectors     = ()
    #: The same die as the part without memory, in the tools.
    _chipdb_device = "GW2A-18C"


class TangPrimer25k(GowinPlatform):
    """Sipeed Tang Primer 25K on its dock. Its LEDs are at the pins READY and DONE."""

    part, family   = "GW5A-LV25MG121NC1/I0", "GW5A-25A"
    default_clk    = "clk50"
    resources      = (_clock("clk50", "E2", 50e6, _GOWIN), _uart("B3", "C3", _GOWIN),
                      Resource("led", 0, Pins("E8", dir="o"), _GOWIN),
                      Resource("led", 1, Pins("D7", dir="o"), _GOWIN))
    connectors     = ()
    _chipdb_device = "GW5A-25A"

    def parse_part(self):
        """Accept the part: Amaranth 0.5 knows no name of this series."""
        self.series = self.series_f = "GW5A"
