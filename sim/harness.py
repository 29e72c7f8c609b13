"""The one caller of Amaranth's simulator: testbenches, a clock and a cycle limit."""

from contextlib import nullcontext

from amaranth import Module, Signal
from amaranth.sim import Simulator

__all__ = ["SimulationTimeout", "simulate"]

_PERIOD = 1e-8


class SimulationTimeout(Exception):
    """A simulation passed its cycle limit."""


def simulate(dut, *testbenches, cycles=100_000, vcd=None):
    """Run the testbenches on ``dut`` until all have ended.

    Parameters
    ----------
    dut : Component
        Combinational or in the domain ``sync``.
    testbenches
        Coroutine functions of one argument, the simulator's context.
    cycles : int
        Limit of clock cycles.
    vcd : path, optional
        Where to write a waveform.

    Raises
    ------
    SimulationTimeout
        The testbenches had not ended within ``cycles``.
    """
    top = Module()
    top.submodules.dut = dut
    top.d.sync += Signal().eq(0)    # a combinational component has no clock domain of its own
    simulator = Simulator(top)
    simulator.add_clock(_PERIOD)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    with simulator.write_vcd(str(vcd)) if vcd else nullcontext():
        for _ in range(2 * cycles):     # an edge of the clock a step
            if not simulator.advance():
                return
    raise SimulationTimeout(f"the simulation passed its limit of {cycles} cycles")
