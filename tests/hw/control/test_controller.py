"""The controller alone: what it answers, and what it tells the rest of the device."""

import struct
from itertools import product

import pytest

from tritstream.golden.fixed_point import SCALES
from tritstream.hw.config import DeviceConfig
from tritstream.hw.control.controller import Controller, Route
from tritstream.hw.protocol import ErrorCode, GemvArguments, Opcode
from tritstream.sim.harness import simulate

CONFIG = DeviceConfig(8, 3, 256, clock_hz=0x89ABCDEF, build_id=0x76543210)
IDENTIFY, ACTIVATIONS, GEMV = Opcode.IDENTIFY, Opcode.ACTIVATIONS, Opcode.GEMV


def header(opcode: int, sequence: int = 1, arg0: int = 0, arg1: int = 0, length: int = 0) -> dict:
    return {"magic": 0x3354, "opcode": opcode, "sequence": sequence, "arg0": arg0, "arg1": arg1,
            "length": length}


def load(column: int = 0, k: int = 32, **options) -> dict:
    return header(ACTIVATIONS, arg0=column, arg1=k, length=k, **options)


SCALES_LOAD = header(Opcode.SCALES, length=4 * SCALES)


def gemv(depth: int = 2, groups: int = 2, columns: int = 1, blocks: int = 3, **options) -> dict:
    return header(GEMV, arg0=depth | groups << 8 | columns << 24, arg1=blocks, length=64,
                  **options)


class Bench:
    """A controller between a deframer and a framer that do as they are told."""

    def __init__(self, config: DeviceConfig = CONFIG):
        self.dut = Controller(config)
        self.routes: list[int] = []
        self.starts = 0

    async def tick(self, ctx):
        self.starts += ctx.get(self.dut.gemv.start)
        await ctx.tick()

    async def ask(self, ctx, head, crc_ok=1, complete=1, bad=0, words=1, out_of_sync=0):
        """One exchange: (opcode, sequence, arg0, arg1, length), and the payload's bytes."""
        dut = self.dut
        ctx.set(dut.headers.p, {"header": head, "out_of_sync": out_of_sync})
        ctx.set(dut.headers.valid, 1)
        while not ctx.get(dut.headers.ready):
            await self.tick(ctx)
        await self.tick(ctx)
        ctx.set(dut.headers.valid, 0)
        self.routes.append(ctx.get(dut.route))
        if not out_of_sync:
            await self._payload(ctx, crc_ok, complete, bad, words)
        return await self._answer(ctx, out_of_sync)

    async def _payload(self, ctx, crc_ok, complete, bad, words):
        dut = self.dut
        for cycle in range(words + 3):
            ctx.set(dut.load_word, cycle < words)
            await self.tick(ctx)
            assert not ctx.get(dut.requests.valid)
        ctx.set(dut.gemv.complete, complete)
        ctx.set(dut.bad_mantissa, bad)
        ctx.set(dut.frame_status.payload, crc_ok)
        ctx.set(dut.frame_status.valid, 1)

    async def _answer(self, ctx, out_of_sync):
        dut = self.dut
        ctx.set(dut.idle, 1)
        for _ in range(20):
            if ctx.get(dut.requests.valid):
                break
            await self.tick(ctx)
        await self.tick(ctx)
        said = ctx.get(dut.requests.payload)
        payload = ctx.get(dut.answer).to_bytes(32, "little")
        assert ctx.get(dut.requests.valid) and ctx.get(dut.active)
        ctx.set(dut.requests.ready, 1)
        await self.tick(ctx)
        ctx.set(dut.requests.ready, 0)
        ctx.set(dut.idle, 0)
        for _ in range(8):      # held until the answer has left
            assert ctx.get(dut.active) and not ctx.get(dut.frame_status.ready)
            if said.opcode == Opcode.DONE:
                assert ctx.get(dut.answer).to_bytes(32, "little") == payload
            await self.tick(ctx)
        ctx.set(dut.idle, 1)
        assert ctx.get(dut.frame_status.ready) == (not out_of_sync)
        await self.tick(ctx)
        ctx.set(dut.frame_status.valid, 0)
        assert not ctx.get(dut.active)
        return (said.opcode, said.sequence, said.arg0, said.arg1, said.length), payload

    async def loads(self, ctx, columns=CONFIG.columns):
        for head in [SCALES_LOAD, *map(load, range(columns))]:
            assert (await self.ask(ctx, head))[0][0] == Opcode.ACK


def exchanges(steps: list[dict], loaded: bool = True, bench: Bench | None = None) -> list[tuple]:
    """Headers of the answers to some requests, each with the options of :meth:`Bench.ask`."""
    bench, said = bench or Bench(), []

    async def drive(ctx):
        if loaded:
            await bench.loads(ctx)
            bench.routes.clear()
        for step in steps:
            said.append(await bench.ask(ctx, **step))

    simulate(bench.dut, drive)
    return said


def test_each_request_has_its_answer():
    said = exchanges([{"head": header(Opcode.IDENTIFY, 0xA5)}, {"head": gemv(sequence=0x5A)},
                      {"head": load(2, sequence=3)}, {"head": SCALES_LOAD},
                      {"head": header(Opcode.STATUS, 4)}, {"head": header(Opcode.RESET, 5)}])
    assert [head for head, _ in said] == [
        (Opcode.INFO, 0xA5, 8, 0, 24), (Opcode.DONE, 0x5A, 0, 0, 32), (Opcode.ACK, 3, 0, 0, 0),
        (Opcode.ACK, 1, 0, 0, 0), (Opcode.COUNTERS, 4, 0, 0, 32), (Opcode.ACK, 5, 0, 0, 0)]
    assert said[0][1][:24] == struct.pack("<6I", 2, 8, 3, 256, 0x89ABCDEF, 0x76543210)
    # The loads before, and four good requests.
    assert struct.unpack("<3Q", said[4][1][:24]) == (8, 0, 0)


def test_payloads_are_routed():
    bench = Bench()
    exchanges([{"head": head} for head in (
        header(IDENTIFY), load(), SCALES_LOAD, gemv(), gemv(depth=5), load(3), header(9),
        header(Opcode.RESET))], bench=bench)
    assert bench.routes == [Route.NOWHERE, Route.LOADER, Route.LOADER, Route.GEMV,
                            *4 * [Route.NOWHERE]]
    assert bench.starts == 1


REFUSED = [
    ({"head": header(200, 7)}, ErrorCode.OPCODE), ({"head": gemv(sequence=7, columns=4)}, 5),
    ({"head": gemv(sequence=7), "complete": 0}, ErrorCode.LENGTH),
    ({"head": {**SCALES_LOAD, "sequence": 7}, "bad": 1}, ErrorCode.SIZE),
    ({"head": {**SCALES_LOAD, "sequence": 7, "length": 16}, "bad": 1}, ErrorCode.LENGTH),
    ({"head": header(IDENTIFY, 7), "crc_ok": 0}, ErrorCode.TRAILER),
    ({"head": gemv(sequence=7, depth=0), "crc_ok": 0}, ErrorCode.TRAILER),
    ({"head": gemv(sequence=7), "crc_ok": 0, "complete": 0}, ErrorCode.TRAILER),
    ({"head": {**SCALES_LOAD, "sequence": 7}, "bad": 1, "crc_ok": 0}, ErrorCode.TRAILER),
]


@pytest.mark.parametrize("step, code", REFUSED)
def test_what_is_refused_and_counted(step, code):
    bench = Bench()
    refused, status = exchanges([step, {"head": header(Opcode.STATUS)}], bench=bench)
    assert refused[0] == (Opcode.ERROR, 7, code, step["head"]["opcode"], 0)
    assert struct.unpack("<3Q", status[1][:24]) == (4, 1, code)


@pytest.mark.parametrize("opcode", [IDENTIFY, Opcode.STATUS, ACTIVATIONS])
def test_what_only_others_may_be_refused_for_does_not_count(opcode):
    # A GEMV is not complete, a mantissa was bad: nothing to one that is neither.
    head = load() if opcode == ACTIVATIONS else header(opcode)
    (said, _), = exchanges([{"head": head, "complete": 0, "bad": 1}])
    assert said[0] != Opcode.ERROR
    (said, _), = exchanges([{"head": gemv(), "bad": 1}])
    assert said[0] == Opcode.DONE


def test_a_hunt_is_an_error_of_no_frame():
    said = exchanges([{"head": header(77, 99), "out_of_sync": 1},
                      {"head": header(Opcode.STATUS, 4)}, {"head": gemv()}])
    assert said[0][0] == (Opcode.ERROR, 0, ErrorCode.NO_HEADER, 0, 0)
    assert struct.unpack("<3Q", said[1][1][:24]) == (4, 1, 1)
    assert said[2][0][0] == Opcode.DONE


def test_loads_count_after_a_good_trailer_only():
    # Unloaded by its first word, loaded by its end; one that is refused, or without a word, is not.
    steps = [{"head": load(0), "crc_ok": 0}, {"head": gemv()}, {"head": load(0)}, {"head": gemv()},
             {"head": load(0), "crc_ok": 0, "words": 0}, {"head": gemv()},
             {"head": {**load(0), "length": 16}}, {"head": gemv()},
             {"head": SCALES_LOAD, "bad": 1}, {"head": gemv()}, {"head": SCALES_LOAD},
             {"head": header(Opcode.RESET), "crc_ok": 0}, {"head": gemv()},
             {"head": header(Opcode.RESET)}, {"head": gemv()}]
    said = [head[2] if head[0] == Opcode.ERROR else 0 for head, _ in exchanges(steps)]
    assert said == [6, 7, 0, 0, 6, 0, 3, 0, 5, 7, 0, 6, 0, 0, 7]


def test_reset_clears_the_counters():
    _, _, (_, status) = exchanges([{"head": header(9)}, {"head": header(Opcode.RESET)},
                                   {"head": header(Opcode.STATUS)}])
    # The RESET itself is the first of the new count.
    assert struct.unpack("<3Q", status[:24]) in {(0, 0, 0), (1, 0, 0)}


def test_a_refused_reset_keeps_the_counters():
    _, _, (_, status) = exchanges([{"head": header(9)}, {"head": header(Opcode.RESET), "crc_ok": 0},
                                   {"head": header(Opcode.STATUS)}])
    assert struct.unpack("<3Q", status[:24]) == (4, 2, ErrorCode.TRAILER)


@pytest.mark.parametrize("blocker, level", [("busy", 1), ("idle", 0)])
def test_cycles_count_from_the_first_word_until_the_last_result_has_left(blocker, level):
    bench = Bench()

    async def drive(ctx):
        dut = bench.dut
        port = getattr(dut, blocker)
        await bench.loads(ctx)
        ctx.set(dut.gemv.complete, 0)
        ctx.set(dut.headers.p, {"header": gemv(), "out_of_sync": 0})
        ctx.set(dut.headers.valid, 1)
        await ctx.tick().until(dut.headers.ready)
        ctx.set(dut.headers.valid, 0)
        await ctx.tick().repeat(5)      # not yet
        ctx.set(dut.word, 1)
        await ctx.tick().repeat(4)
        ctx.set(dut.word, 0)
        ctx.set(port, level)            # a result leaves, and the next word is late
        await ctx.tick().repeat(3)
        ctx.set(dut.gemv.complete, 1)
        await ctx.tick().repeat(5)
        ctx.set(port, not level)
        await ctx.tick().repeat(9)      # the trailer is late
        ctx.set(dut.frame_status.payload, 1)
        ctx.set(dut.frame_status.valid, 1)
        done, payload = await bench._answer(ctx, 0)
        assert done[0] == Opcode.DONE
        cycles, _, _, words = struct.unpack("<4Q", payload)
        assert (cycles, words) == (4 + 3 + 5, 4)

    simulate(bench.dut, drive)


@pytest.mark.parametrize("arguments", [
    GemvArguments(1, 1, 1, 1), GemvArguments(4, 2, 1, 3), GemvArguments(3, 2, 1, 1 << 23, 4, True),
    GemvArguments(2, 2, 1, 2**24 - 1, 15), GemvArguments(1, 2, 1, 256, 63, True),
    GemvArguments(1, 2, 1, 65536, 32), GemvArguments(4, 2, 1, 1, 1, True)], ids=str)
def test_job_of_a_gemv(arguments):
    bench = Bench()

    async def drive(ctx):
        await bench.ask(ctx, SCALES_LOAD)
        await bench.ask(ctx, load(0, 16 * arguments.chunks))
        arg0, arg1 = arguments.pack()
        request = {**gemv(), "arg0": arg0, "arg1": arg1}
        assert (await bench.ask(ctx, request))[0][0] == Opcode.DONE
        job = ctx.get(bench.dut.gemv.job)
        assert arguments == GemvArguments(
            job.digit_last + 1, job.chunk_last + 1, 1, job.block_last + 1, job.length_last + 1,
            bool(job.direct))

    simulate(bench.dut, drive)


@pytest.mark.parametrize("columns, config", [
    (1, CONFIG), (2, CONFIG), (3, CONFIG), (17, DeviceConfig(8, 17, 256))])
def test_results_are_asked_for_block_by_block_and_column_by_column(columns, config):
    bench, asked = Bench(config), []

    async def drive(ctx):
        dut = bench.dut
        await bench.loads(ctx, columns)
        for _ in range(2):
            ctx.set(dut.headers.p, {"header": gemv(columns=columns, sequence=9), "out_of_sync": 0})
            ctx.set(dut.headers.valid, 1)
            await ctx.tick().until(dut.headers.ready)
            ctx.set(dut.headers.valid, 0)
            ctx.set(dut.busy, 1)
            for _, column in product(range(3), range(columns)):
                ctx.set(dut.full, 1)
                await ctx.tick()
                said = ctx.get(dut.requests.payload)
                asked.append((ctx.get(dut.requests.valid), said.opcode, said.sequence, said.arg0,
                              said.arg1, said.length))
                ctx.set(dut.requests.ready, 1)
                await ctx.tick()
                ctx.set(dut.requests.ready, 0)
                await ctx.tick().repeat(2)
                request = ctx.get(dut.results.payload)
                assert ctx.get(dut.results.valid)
                assert (request.column, request.last) == (column, column == columns - 1)
                assert not ctx.get(dut.requests.valid)
                ctx.set(dut.results.ready, 1)
                await ctx.tick()
                ctx.set(dut.results.ready, 0)
                ctx.set(dut.full, 0)
                await ctx.tick().repeat(2)
            # The trailer is there, but banks are busy: no answer yet.
            ctx.set(dut.gemv.complete, 1)
            ctx.set(dut.idle, 1)
            ctx.set(dut.frame_status.payload, 1)
            ctx.set(dut.frame_status.valid, 1)
            await ctx.tick().repeat(20)
            assert not ctx.get(dut.requests.valid)
            ctx.set(dut.idle, 0)
            ctx.set(dut.busy, 0)
            await ctx.tick().repeat(20)
            assert not ctx.get(dut.requests.valid)
            assert (await bench._answer(ctx, 0))[0][:2] == (Opcode.DONE, 9)

    simulate(bench.dut, drive)
    assert asked == 2 * [(1, Opcode.RESULT, 9, block, column, 8 * 5 * 8)
                         for block, column in product(range(3), range(columns))]


def test_a_refusal_is_told_until_the_next_request():
    bench, failed = Bench(), []

    async def drive(ctx):
        for head in (header(IDENTIFY), header(9), header(9), header(IDENTIFY)):
            await bench.ask(ctx, head)
            await ctx.tick()
            failed.append(ctx.get(bench.dut.failed))

    simulate(bench.dut, drive)
    assert failed == [0, 1, 1, 0]


def test_column_of_a_load():
    bench, columns = Bench(), []

    async def drive(ctx):
        for column in range(3):
            await bench.ask(ctx, load(column))
            columns.append(ctx.get(bench.dut.column))

    simulate(bench.dut, drive)
    assert columns == [0, 1, 2]
