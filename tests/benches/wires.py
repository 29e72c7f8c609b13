"""Ports of a design under test, as the exporter names and codes them."""

from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.types import LogicArray

__all__ = [
    "PERIOD_NS", "array", "reset", "signed", "start", "trit_bits", "trit_value", "unknown",
    "unsigned",
]

PERIOD_NS = 10

_TRITS = (0b00, 0b01, 0b11)     # of the digits 0, 1, 2


def array(dut, name, *shape):
    """Handles of an array of ports: nested lists, ``name__0__1`` at [0][1]."""
    if not shape:
        return getattr(dut, name)
    return [array(dut, f"{name}__{index}", *shape[1:]) for index in range(shape[0])]


def trit_bits(trit):
    """Wires of a balanced trit -1, 0, 1, or of a digit 2, 0, 1."""
    return _TRITS[trit % 3]


def trit_value(bits):
    """Balanced trit on wires; None where they hold none."""
    return {0b00: 0, 0b01: 1, 0b11: -1}.get(bits)


def signed(value, bits):
    """Two's complement bits as a number."""
    return value - (1 << bits) if value >> bits - 1 else value


def unsigned(value, bits):
    """A number as two's complement bits."""
    return value % (1 << bits)


def unknown(port):
    """X in every bit of a port; a simulator of two states takes any value for it."""
    return LogicArray("X" * len(port))


async def start(dut, clk="clk", rst="rst", active=1):
    """Start the clock and reset; ends just after a rising edge.

    A value read just after a rising edge is the one before it: of the cycle that ends there.
    """
    Clock(getattr(dut, clk), PERIOD_NS, unit="ns").start()
    await reset(dut, clk, rst, active)


async def reset(dut, clk="clk", rst="rst", active=1):
    """Hold the reset for four cycles; ends a cycle after it."""
    getattr(dut, rst).value = active
    await ClockCycles(getattr(dut, clk), 4)
    getattr(dut, rst).value = 1 - active
    await RisingEdge(getattr(dut, clk))
