"""Unpacker bench: every byte in every lane against the codec."""

import cocotb
import numpy as np
from benches.wires import array, trit_value
from cocotb.triggers import Timer

from golden.tiles import ROWS
from golden.trit import decode, to_trit

LANES = int(cocotb.plusargs["lanes"])


async def planes_of(dut, packed):
    """What a word decodes to: a plane for each row."""
    dut.packed.value = int.from_bytes(packed.tobytes(), "little")
    await Timer(1, "ns")
    return [int(plane.value) for plane in array(dut, "rows", ROWS)]


async def check(dut, packed):
    """The planes hold the trits of the bytes and nothing else."""
    due = to_trit(decode(packed))                       # (lanes, rows)
    for row, plane in enumerate(await planes_of(dut, packed)):
        for lane in range(LANES):
            wires = plane >> 8 * lane & 0xFF
            assert trit_value(wires) == due[lane, row], (
                f"row {row}, lane {lane}: byte 0x{packed[lane]:02x} gives {trit_value(wires)} "
                f"(wires {wires:#04x}), not {due[lane, row]}")
        assert plane >> 8 * LANES == 0, f"row {row}: {plane:#x} has bits above the last lane"


@cocotb.test(timeout_time=1, timeout_unit="us")
async def every_byte_in_every_lane(dut):
    for step in range(256):
        await check(dut, ((step + 37 * np.arange(LANES)) % 256).astype(np.uint8))


@cocotb.test(timeout_time=1, timeout_unit="us")
async def random_words(dut):
    for packed in np.random.default_rng(1).integers(0, 256, (500, LANES), dtype=np.uint8):
        await check(dut, packed)
