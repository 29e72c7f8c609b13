import numpy as np
import pytest
from amaranth import ResetInserter, Signal

from tritstream.hw.primitives.stream_buffer import StreamBuffer
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never


def stalls(seed, share):
    return coin(seed, share) if share else never


def run(sent, i_stalls, o_stalls, cycles):
    """Payloads that leave while ``sent`` is offered, checked against the stream rules."""
    dut = StreamBuffer(16)
    received = []

    async def drive(ctx):
        waiting, held = list(sent), None
        for cycle in range(cycles):
            offered = ctx.get(dut.i.valid)
            if waiting and (offered or not i_stalls()):
                ctx.set(dut.i.valid, 1)
                ctx.set(dut.i.payload, waiting[0])
            ready = not o_stalls()
            ctx.set(dut.o.ready, ready)
            valid, payload = ctx.get(dut.o.valid), ctx.get(dut.o.payload)
            if held is not None:
                assert (valid, payload) == (1, held), f"{held} was withdrawn in cycle {cycle}"
            held = payload if valid and not ready else None
            if valid and ready:
                received.append(payload)
            taken = ctx.get(dut.i.valid) and ctx.get(dut.i.ready)
            await ctx.tick()
            if taken:
                waiting.pop(0)
                ctx.set(dut.i.valid, 0)

    simulate(dut, drive, cycles=cycles + 1)
    return received


@pytest.mark.parametrize("i_share", [0, 0.3, 0.8])
@pytest.mark.parametrize("o_share", [0, 0.3, 0.8])
def test_order_is_kept_and_payloads_hold_until_taken(i_share, o_share):
    sent = np.random.default_rng(1).integers(0, 1 << 16, 300).tolist()
    assert run(sent, stalls(2, i_share), stalls(3, o_share), cycles=2_500) == sent


def test_takes_and_gives_a_payload_a_cycle():
    sent = list(range(1, 51))
    # Ready from the second cycle on, latency one.
    assert run(sent, never, never, cycles=50 + 2) == sent
    assert run(sent, never, never, cycles=50 + 1) == sent[:-1]


def test_latency_is_one_cycle():
    dut = StreamBuffer(8)

    async def drive(ctx):
        await ctx.tick()
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.payload, 5)
        ctx.set(dut.i.valid, 1)
        assert ctx.get(dut.i.ready)
        assert not ctx.get(dut.o.valid)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        assert ctx.get(dut.o.valid)
        assert ctx.get(dut.o.payload) == 5
        await ctx.tick()
        assert not ctx.get(dut.o.valid)

    simulate(dut, drive, cycles=10)


def test_takes_two_payloads_while_the_output_waits():
    dut = StreamBuffer(8)

    async def drive(ctx):
        taken = []
        await ctx.tick()
        ctx.set(dut.i.valid, 1)
        for value in range(10, 30):
            ctx.set(dut.i.payload, value)
            if ctx.get(dut.i.ready):
                taken.append(value)
            await ctx.tick()
        assert taken == [10, 11]

    simulate(dut, drive, cycles=50)


def test_no_path_through_within_a_cycle():
    dut = StreamBuffer(8)
    i_flip, o_flip = coin(5, 0.5), coin(6, 0.5)

    async def drive(ctx):
        for cycle in range(200):
            seen = set()
            for flip in range(4):
                ctx.set(dut.i.valid, i_flip())
                ctx.set(dut.i.payload, 4 * cycle + flip)
                ctx.set(dut.o.ready, o_flip())
                seen.add((ctx.get(dut.i.ready), ctx.get(dut.o.valid), ctx.get(dut.o.payload)))
            assert len(seen) == 1, f"cycle {cycle}"
            await ctx.tick()

    simulate(dut, drive, cycles=250)


def test_takes_nothing_in_reset_and_forgets_what_is_inside():
    buffer = StreamBuffer(8)
    reset = Signal(init=1)

    async def drive(ctx):
        ctx.set(buffer.i.valid, 1)
        for value in range(4):
            ctx.set(buffer.i.payload, value)
            assert not ctx.get(buffer.i.ready)
            await ctx.tick()
            assert not ctx.get(buffer.o.valid)
        ctx.set(reset, 0)
        assert not ctx.get(buffer.i.ready)
        ctx.set(buffer.i.payload, 10)
        await ctx.tick()
        assert ctx.get(buffer.i.ready)
        await ctx.tick()
        ctx.set(buffer.i.payload, 11)
        await ctx.tick()
        # Two payloads are in the buffer, and the sink pauses.
        assert not ctx.get(buffer.i.ready)
        assert ctx.get(buffer.o.valid)
        assert ctx.get(buffer.o.payload) == 10
        ctx.set(buffer.i.valid, 0)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        ctx.set(buffer.o.ready, 1)
        for _ in range(4):
            assert not ctx.get(buffer.o.valid)
            await ctx.tick()

    simulate(ResetInserter(reset)(buffer), drive, cycles=50)
