import numpy as np
import pytest

from tritstream.golden import trit
from tritstream.hw.compute.trit_unpacker import TritUnpacker
from tritstream.sim.harness import simulate


def unpack(packed):
    """Digits (n, lanes, 5) as the RTL decodes words (n, lanes)."""
    dut = TritUnpacker(packed.shape[1])
    digits = []

    async def drive(ctx):
        for word in packed:
            ctx.set(dut.packed, int.from_bytes(word.tobytes(), "little"))
            await ctx.delay(1e-9)
            planes = [[ctx.get(plane) for plane in planes]
                      for planes in (dut.nonzero, dut.negative)]
            digits.append([[(nonzero >> lane & 1) | (negative >> lane & 1) << 1
                            for nonzero, negative in zip(*planes, strict=True)]
                           for lane in range(dut.lanes)])

    simulate(dut, drive)
    # nonzero + negative is the digit; negative alone does not occur.
    return np.array([0, 1, 9, 2], np.uint8)[np.array(digits)]


def test_every_byte_decodes_as_golden_does():
    packed = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    np.testing.assert_array_equal(unpack(packed), trit.decode(packed))


@pytest.mark.parametrize("lanes", [2, 8, 32])
def test_lanes_do_not_disturb_each_other(lanes):
    packed = np.random.default_rng(1).integers(0, 256, (100, lanes), np.uint8)
    np.testing.assert_array_equal(unpack(packed), trit.decode(packed))
