"""Run testbenches in Amaranth's simulator, with a clock and a cycle limit."""

from contextlib import nullcontext

from amaranth import Module, Signal
from amaranth.sim import Simulator

__all__ = ["SimulationTimeout", "simulate"]

_PERIOD = 1e-8


class SimulationTimeout(Exception):
    """A simulation exceeded its cycle limit."""


def simulate(dut, *testbenches, background=(), cycles=100_000, vcd=None):
    """Simulate ``dut`` until all testbenches have finished.

    Parameters
    ----------
    dut : Component
        Design, combinational or in the domain ``sync``.
    testbenches
        Coroutine functions with one argument, the simulator's context.
    background
        Further coroutine functions, which may run without end.
    cycles : int
        Maximum number of clock cycles.
    vcd : path, optional
        VCD file to write the waveform to.

    Raises
    ------
    SimulationTimeout
        A testbench is still running after ``cycles``.
    """
    top = Module()
    top.submodules.dut = dut
    top.d.sync += Signal().eq(0)    # a combinational component has no clock domain of its own
    simulator = Simulator(top)
    simulator.add_clock(_PERIOD)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    for testbench in background:
        simulator.add_testbench(testbench, background=True)
    with simulator.write_vcd(str(vcd)) if vcd else nullcontext():
        for _ in range(2 * cycles):     # one clock edge per step
            if not simulator.advance():
                return
    raise SimulationTimeout(f"the simulation passed its limit of {cycles} cycles")
