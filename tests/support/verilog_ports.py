"""Ports of a module, from its Verilog."""

import re

__all__ = ["ports_of"]


def ports_of(verilog, module):
    """Direction and width of each port of a module."""
    body = re.search(rf"^module {module} ?\(.*?^endmodule", verilog, re.S | re.M)[0]
    return {name: (way, int(top or 0) + 1) for way, top, name in re.findall(
        r"^  (in|out)put +(?:wire +)?(?:\[(\d+):0\] )?(\w+)[;,]?$", body, re.M)}
