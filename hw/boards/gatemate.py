"""GateMate FPGAs of Cologne Chip: platform of Amaranth for Yosys, nextpnr and Project Peppercorn.

Sources: Cologne Chip UG1001, GateMate Primitives Library; nextpnr's ``himbaechel/uarch/gatemate``;
litex-boards (``olimex_gatemate_a1_evb``) and the schematic of Olimex for the pins.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from amaranth import Instance, Module, Signal
from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal, TemplatedPlatform
from amaranth.lib import io

__all__ = ["GateMatePlatform", "GateMatePll", "OlimexGateMate"]

_MHZ = 1_000_000


class GateMatePlatform(TemplatedPlatform):
    """Platform with the tools Yosys, nextpnr-himbaechel and gmpack. A subclass has the pins."""

    toolchain      = "Peppercorn"
    device         = "CCGM1A1"
    connectors     = ()
    required_tools = ("yosys", "nextpnr-himbaechel", "gmpack")
    file_templates: ClassVar = {
        **TemplatedPlatform.build_script_templates,
        "{{name}}.il": "{{emit_rtlil()}}",
        "{{name}}.ys": r"""
            read_rtlil {{name}}.il
            synth_gatemate {{get_override("synth_opts")|options}} -top {{name}} -json {{name}}.json
        """,
        "{{name}}.ccf": r"""
            {% for port, pin, attrs in platform.iter_port_constraints_bits() -%}
                Net "{{port}}" Loc = "{{pin}}"
                {%- for key, value in attrs.items() %} | {{key}}={{value}}{% endfor %};
            {% endfor %}
        """,
    }
    command_templates = (
        r"""{{invoke_tool("yosys")}} -q -l {{name}}.rpt {{name}}.ys""",
        r"""
        {{invoke_tool("nextpnr-himbaechel")}} {{get_override("nextpnr_opts")|options}}
            --log {{name}}.tim --device {{platform.device}} --json {{name}}.json
            --vopt ccf={{name}}.ccf --vopt out={{name}}.txt
        """,
        r"""{{invoke_tool("gmpack")}} {{name}}.txt {{name}}.bit""",
    )


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


class OlimexGateMate(GateMatePlatform):
    """Olimex GateMateA1-EVB. Its RP2040 has the serial line."""

    default_clk = "clk10"
    resources   = (
        Resource("clk10", 0, Pins("IO_SB_A8", dir="i"), Clock(10e6),
                 Attrs(SCHMITT_TRIGGER="true")),
        Resource("uart", 0, Subsignal("rx", Pins("IO_SA_A6", dir="i")),
                 Subsignal("tx", Pins("IO_SA_B6", dir="o"))),
        Resource("led", 0, PinsN("IO_SB_B6", dir="o")))
