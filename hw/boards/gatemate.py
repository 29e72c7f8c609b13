"""GateMate FPGAs of Cologne Chip: platform of Amaranth for Yosys, nextpnr and Project Peppercorn.

Sources: nextpnr's ``himbaechel/uarch/gatemate``; litex-boards (``olimex_gatemate_a1_evb``) and the
schematic of Olimex for the pins.
"""

from typing import ClassVar

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal, TemplatedPlatform

__all__ = ["GateMatePlatform", "OlimexGateMate"]


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


class OlimexGateMate(GateMatePlatform):
    """Olimex GateMateA1-EVB. Its RP2040 has the serial line."""

    default_clk = "clk10"
    resources   = (
        Resource("clk10", 0, Pins("IO_SB_A8", dir="i"), Clock(10e6),
                 Attrs(SCHMITT_TRIGGER="true")),
        Resource("uart", 0, Subsignal("rx", Pins("IO_SA_A6", dir="i")),
                 Subsignal("tx", Pins("IO_SA_B6", dir="o"))),
        Resource("led", 0, PinsN("IO_SB_B6", dir="o")))
