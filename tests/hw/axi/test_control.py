import pytest

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.control import ChannelControl
from tritstream.hw.axi.registers import CHANNEL, Error, Status
from tritstream.hw.config import DeviceConfig
from tritstream.sim.harness import simulate


async def read(ctx, dut, name):
    """Return a register."""
    ctx.set(dut.read, CHANNEL[name].offset // 4)
    await ctx.tick()
    return ctx.get(dut.content)


async def write(ctx, dut, name, value):
    """Write a register."""
    ctx.set(dut.select, CHANNEL[name].offset // 4)
    ctx.set(dut.value, value)
    ctx.set(dut.write, 1)
    await ctx.tick()
    ctx.set(dut.write, 0)
    await ctx.tick()


@pytest.mark.parametrize("first, second", [
    ({"write_error": Error.WRITE_SLVERR}, {"read_error": Error.READ_DECERR}),
    ({"read_error": Error.READ_SLVERR}, {"write_error": Error.WRITE_DECERR})])
def test_the_first_error_stays_until_a_restart(first, second):
    dut = ChannelControl(AxiConfig(DeviceConfig(8, 1, 1024)))

    async def test(ctx):
        ctx.set(dut.idle, 1)
        for name, value in (("memory", 64), ("ring", 4096), ("restart", 1)):
            await write(ctx, dut, name, value)
        await ctx.tick().repeat(20)
        assert await read(ctx, dut, "status") & Status.READY
        expected, = first.values()
        for errors in (first, second):
            for name, value in errors.items():
                ctx.set(getattr(dut, name), value)
            for _ in range(3):
                assert await read(ctx, dut, "error") == expected
        await write(ctx, dut, "restart", 2)
        while not ctx.get(dut.clear):
            await ctx.tick()
        # Reader and writer drop their errors in this cycle.
        await ctx.tick()
        for name in ("read_error", "write_error"):
            ctx.set(getattr(dut, name), Error.NONE)
        assert await read(ctx, dut, "error") == Error.NONE

    simulate(dut, test, cycles=200)
