"""Linear maps over single bits: exclusive ors of the bits of a word, such as a CRC."""

from collections.abc import Callable
from functools import reduce
from operator import xor

from amaranth import Module, Value
from amaranth.lib.memory import Memory

from tritstream.hw.primitives.cells import cells_of

__all__ = ["linear_map"]


def linear_map(m: Module, platform: object, name: str, value: Value, width: int,
               image: Callable[[int], int]) -> Value:
    """Add a linear map of ``value`` to a module and return its result of ``width`` bits.

    ``image`` returns the result of any number; it must be linear, ``image(a ^ b) == image(a) ^
    image(b)``. ``platform`` is the argument of ``elaborate``. ``name`` is a prefix of names.

    Families with ``exclusive_ors`` share partial results between the bits. The generic form is an
    exclusive or of tables with 16 entries, one table per four bits of the value. A table look-up is
    one load in a compiled simulation.
    """
    if exclusive_ors := getattr(cells_of(platform), "exclusive_ors", None):
        images = [image(1 << bit) for bit in range(len(value))]
        return exclusive_ors(m, value, [[bit for bit, result in enumerate(images)
                                         if result >> row & 1] for row in range(width)])
    terms = []
    for low in range(0, len(value), 4):
        # One LUT4 per bit; the table is too small for a block memory.
        table = Memory(shape=width, depth=16, attrs={"ram_style": "logic"},
                       init=[image(bits << low) for bits in range(16)])
        m.submodules[f"{name}{low}"] = table
        port = table.read_port(domain="comb")
        m.d.comb += port.addr.eq(value[low:low + 4])
        terms.append(port.data)
    return reduce(xor, terms)
