import zlib

import numpy as np
import pytest

from tritstream.hw.framing.crc import POLYNOMIAL, Crc32, HeaderCrc, crc_step
from tritstream.hw.protocol import HEADER_BYTES, HEADER_CRC_OFFSET, MAGIC
from tritstream.sim.harness import simulate

from support.ecp5_cells import on_ecp5


def generic(component):
    return component


def test_step_is_the_published_crc():
    # The check value of CRC-32/ISO-HDLC.
    data = int.from_bytes(b"123456789", "little")
    assert crc_step(0xFFFFFFFF, data, 9) ^ 0xFFFFFFFF == 0xCBF43926


@pytest.mark.parametrize("form, size", [
    *((generic, size) for size in (1, 2, 4, 8, 16, 32, 64)),
    *((on_ecp5, size) for size in (1, 4, 8, 32))])
def test_word_crc_equals_zlib_after_its_latency(form, size):
    rng = np.random.default_rng(size)
    messages = [rng.bytes(size * int(n)) for n in rng.integers(1, 6, 5)]
    dut = form(Crc32(size))

    async def drive(ctx):
        for message in messages:
            for low in range(0, len(message), size):
                while rng.random() < 0.3:
                    ctx.set(dut.en, 0)
                    await ctx.tick()
                ctx.set(dut.en, 1)
                ctx.set(dut.first, low == 0)
                ctx.set(dut.word, int.from_bytes(message[low:low + size], "little"))
                await ctx.tick()
            ctx.set(dut.en, 0)
            await ctx.tick().repeat(dut.LATENCY - 1)
            assert ctx.get(dut.crc) == zlib.crc32(message)

    simulate(dut, drive)


def single_bits(size):
    """Errors of a header's CRC which the register of a unit shows in one bit each.

    The unit compares the n-th root of the register after the whole last word, n = 8 * size.
    """
    zeros = 4 + -HEADER_BYTES % size
    for bit in range(32):
        state = 1 << bit
        for _ in range((8 * size).bit_length() - 1):
            state = square(state)
        for _ in range(8 * zeros):      # a step of the register, backwards
            carry = state >> 31
            state = (state ^ POLYNOMIAL * carry) << 1 | carry
        yield state


def square(value):
    """Square of an element of the field; bit 31 is x^0."""
    product, power = 0, value
    for bit in range(32):
        product ^= power * (value >> 31 - bit & 1)
        power = power >> 1 ^ POLYNOMIAL * (power & 1)
    return product


@pytest.mark.parametrize("form, size", [
    *((generic, size) for size in (1, 2, 4, 8, 16, 32, 64)), (on_ecp5, 8), (on_ecp5, 16)])
def test_sound_tells_a_header_that_ends_in_its_crc(form, size):
    rng = np.random.default_rng(size)
    dut = form(Crc32(size, checks_header=True))

    async def check(ctx, spoil):
        header = rng.bytes(HEADER_CRC_OFFSET)
        header += (zlib.crc32(header) ^ spoil).to_bytes(4, "little")
        data = header + rng.bytes(-HEADER_BYTES % size)
        ctx.set(dut.en, 1)
        for low in range(0, len(data), size):
            ctx.set(dut.first, low == 0)
            ctx.set(dut.word, int.from_bytes(data[low:low + size], "little"))
            await ctx.tick()
        ctx.set(dut.en, 0)
        await ctx.tick().repeat(dut.LATENCY - 1)
        assert ctx.get(dut.sound) == (spoil == 0)

    async def drive(ctx):
        for spoil in (0, 1, 0, 1 << 31, 0x00010000, 0, *single_bits(size), 0):
            await check(ctx, spoil)

    simulate(dut, drive)


def test_header_crc_equals_zlib_after_its_latency():
    rng = np.random.default_rng(3)
    dut = HeaderCrc()

    async def drive(ctx):
        for _ in range(5):
            magic, rest = MAGIC.to_bytes(2, "little"), rng.bytes(HEADER_CRC_OFFSET - 2)
            ctx.set(dut.data, int.from_bytes(rest, "little"))
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for _ in range(dut.LATENCY - 1):
                assert not ctx.get(dut.done)
                await ctx.tick()
            assert ctx.get(dut.done)
            assert ctx.get(dut.crc) == zlib.crc32(magic + rest)

    simulate(dut, drive)
