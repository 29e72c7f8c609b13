"""Names of the core's top module and ports, as the core has them and as a Vitis kernel needs them.

A kernel of Vitis has the interface ``s_axi_control`` and, for all versions of the tool, the clock
``ap_clk`` and the reset ``ap_rst_n`` (AMD UG1393, UG1700: requirements of RTL kernels).
"""

from dataclasses import dataclass

__all__ = ["CORE", "KERNEL", "Names"]


@dataclass(frozen=True)
class Names:
    """Names of a top module and of its ports.

    Parameters
    ----------
    top : str
        Module.
    clock, reset : str
        Ports.
    slave : str
        AXI4-Lite interface, which the names of its ports begin with.
    interrupt : str, optional
        Port. Without it, the module has no interrupt.
    """

    top:       str
    clock:     str
    reset:     str
    slave:     str
    interrupt: str | None

    def port(self, name: str) -> str | None:
        """Return the name of a port that the core calls ``name``, or None if it is left out."""
        single = {CORE.clock: self.clock, CORE.reset: self.reset, CORE.interrupt: self.interrupt}
        if name in single:
            return single[name]
        bus = f"{CORE.slave}_"
        return f"{self.slave}_{name.removeprefix(bus)}" if name.startswith(bus) else name


CORE   = Names("tritstream_axi", "aclk", "aresetn", "s_axi", "irq")
#: XRT gives interrupts of a kernel with its own registers to no program, so the kernel has none.
KERNEL = Names("tritstream_kernel", "ap_clk", "ap_rst_n", "s_axi_control", None)
