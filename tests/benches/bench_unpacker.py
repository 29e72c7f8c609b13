"""Unpacker bench: every byte in every lane against the codec."""

import cocotb
import numpy as np
from cocotb.triggers import Timer

from tritstream.golden.fixed_point import ROWS
from tritstream.golden.trit import decode, to_trit

from benches.wires import array, trit_value

LANES = int(cocotb.plusargs["lanes"])


async def check(dut, packed):
    """The planes hold the trits of the bytes, in bit l those of lane l."""
    dut.packed.value = int.from_bytes(packed.tobytes(), "little")
    await Timer(1, "ns")
    nonzero, negative = ([int(plane.value) for plane in array(dut, name, ROWS)]
                         for name in ("nonzero", "negative"))
    for (lane, row), expected in np.ndenumerate(to_trit(decode(packed))):
        wires = (nonzero[row] >> lane & 1) | (negative[row] >> lane & 1) << 1
        assert trit_value(wires) == expected, (
            f"row {row}, lane {lane}: byte 0x{packed[lane]:02x} gives {trit_value(wires)} "
            f"(wires {wires:#04x}), not {expected}")


@cocotb.test(timeout_time=1, timeout_unit="us")
async def every_byte_in_every_lane(dut):
    for step in range(256):
        await check(dut, ((step + 37 * np.arange(LANES)) % 256).astype(np.uint8))


@cocotb.test(timeout_time=1, timeout_unit="us")
async def random_words(dut):
    for packed in np.random.default_rng(1).integers(0, 256, (500, LANES), dtype=np.uint8):
        await check(dut, packed)
