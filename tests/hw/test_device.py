"""How the rooms of a device are connected: what abandons a frame, and what counts as a stall."""

import struct

import pytest

from tritstream.hw.compute.dsp_lanes import DspLanes
from tritstream.hw.compute.lane import Lane
from tritstream.hw.config import DeviceConfig
from tritstream.hw.device import TritDevice
from tritstream.sim.harness import simulate

from support.frames import split_frame
from support.wire import ACK, COUNTERS, DONE, NO_HEADER, SCALES, STATUS, TRAILER, Job, error, frame

#: A word is the magic of a header.
LANES = 2


class Bench:
    """A device with a source and a sink of words."""

    def __init__(self, lane=Lane):
        self.dut = TritDevice(DeviceConfig(lanes=LANES, max_k=16), lane)
        self._received = bytearray()

    async def tick(self, ctx, cycles=1):
        for _ in range(cycles):
            if ctx.get(self.dut.o.valid) and ctx.get(self.dut.o.ready):
                self._received += ctx.get(self.dut.o.p.data).to_bytes(LANES, "little")
            await ctx.tick()

    async def send(self, ctx, data, gap=0):
        """Send words, with so many empty cycles before each."""
        dut = self.dut
        for low in range(0, len(data), LANES):
            await self.tick(ctx, gap)
            ctx.set(dut.i.payload, int.from_bytes(data[low:low + LANES], "little"))
            ctx.set(dut.i.valid, 1)
            while not ctx.get(dut.i.ready):
                await self.tick(ctx)
            await self.tick(ctx)
            ctx.set(dut.i.valid, 0)

    async def answer(self, ctx, quiet=500):
        """The next response, which must have been sent after ``quiet`` cycles."""
        for _ in range(quiet):
            if self._received and not ctx.get(self.dut.busy):
                break
            await self.tick(ctx)
        return split_frame(self._pull, LANES)

    def _pull(self, size):
        part, self._received[:size] = bytes(self._received[:size]), b""
        return part

    async def load(self, ctx, job):
        for request in (job.activations(), job.scales()):
            await self.send(ctx, request)
            assert await self.answer(ctx) == (ACK, 1, 0, 0, b"")

    async def abandon(self, ctx):
        ctx.set(self.dut.abandon, 1)
        while not ctx.get(self.dut.abandoned):
            await self.tick(ctx)
        await self.tick(ctx)
        ctx.set(self.dut.abandon, 0)


def narrow_job():
    """A GEMV of which every row block waits for the RESULTs before."""
    return Job(LANES, depth=1, blocks=3, k=16)


@pytest.mark.parametrize("lane", [Lane, DspLanes])
@pytest.mark.parametrize("gap", [0, 1, 5])
def test_a_product_whatever_the_source_does(gap, lane):
    bench, job = Bench(lane), narrow_job()

    async def drive(ctx):
        ctx.set(bench.dut.o.ready, 1)
        await bench.load(ctx, job)
        await bench.send(ctx, job.gemv(), gap)
        assert [await bench.answer(ctx) for _ in range(3)] == job.results(range(3))
        assert (await bench.answer(ctx))[:2] == (DONE, 1)

    simulate(bench.dut, drive, cycles=2000)


#: Parts of a frame, and the response when it is abandoned behind them.
PARTS = {
    "a word": (frame(SCALES)[:LANES], error(NO_HEADER, sequence=0)),
    "a part of the header": (frame(SCALES)[:8], error(NO_HEADER, sequence=0)),
    "a part of the payload": (Job(LANES).scales()[:84], error(TRAILER, SCALES)),
    "a part of the trailer": (Job(LANES).scales()[:194], error(TRAILER, SCALES)),
    "all but padding": (Job(LANES).scales()[:196], (ACK, 1, 0, 0, b"")),
}


@pytest.mark.parametrize("name", PARTS)
def test_words_before_an_abandon_count(name):
    # The last word is still in the input buffer, and the next frame comes at once.
    bench = Bench()
    sent, response = PARTS[name]

    async def drive(ctx):
        ctx.set(bench.dut.o.ready, 1)
        await bench.send(ctx, sent)
        await bench.abandon(ctx)
        await bench.send(ctx, frame(STATUS, 7))
        assert await bench.answer(ctx) == response
        assert (await bench.answer(ctx))[:2] == (COUNTERS, 7)

    simulate(bench.dut, drive, cycles=2000)


def stalls(missing, refused):
    """Stalls of input and of output in DONE.

    The last word of the third row block waits for a result bank. It is kept back for ``missing``
    cycles and offered for ``refused`` cycles, before a RESULT leaves.
    """
    bench, job = Bench(), narrow_job()
    said = []

    async def drive(ctx):
        ctx.set(bench.dut.o.ready, 1)
        await bench.load(ctx, job)
        ctx.set(bench.dut.o.ready, 0)
        request = job.gemv()
        end = 64 + job.words.size
        await bench.send(ctx, request[:end - LANES])
        await bench.tick(ctx, missing)
        await bench.send(ctx, request[end - LANES:end])
        await bench.tick(ctx, refused)
        ctx.set(bench.dut.o.ready, 1)
        await bench.send(ctx, request[end:])
        assert [await bench.answer(ctx) for _ in range(3)] == job.results(range(3))
        opcode, _, _, _, payload = await bench.answer(ctx)
        assert opcode == DONE
        said.extend(struct.unpack("<4Q", payload)[1:3])

    simulate(bench.dut, drive, cycles=2000)
    return said


def test_a_row_block_that_waits_for_nothing_has_no_stalls():
    bench, job = Bench(), Job(LANES, depth=1, blocks=1, k=16)

    async def drive(ctx):
        ctx.set(bench.dut.o.ready, 1)
        await bench.load(ctx, job)
        await bench.send(ctx, job.gemv())
        assert [await bench.answer(ctx)] == job.results(range(1))
        opcode, _, _, _, payload = await bench.answer(ctx)
        assert opcode == DONE
        assert struct.unpack("<4Q", payload)[1:] == (0, 0, job.words.size // LANES)

    simulate(bench.dut, drive, cycles=2000)


def test_a_word_that_could_not_be_taken_is_not_missing():
    first = stalls(missing=20, refused=20)
    assert first[0] == 0 and first[1] > 20
    assert stalls(missing=70, refused=20) == first
    assert stalls(missing=20, refused=70) == [0, first[1] + 50]
