from itertools import pairwise

import numpy as np
import pytest

from tritstream.hw.framing.framer import Framer
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never

from support.frames import build_frame

LANES = [1, 4, 16, 64]
RESULT = 0x82


def request(opcode, length=0, sequence=1, arg0=0, arg1=0):
    """A frame without its magic, CRCs and payload."""
    return {"opcode": opcode, "sequence": sequence, "arg0": arg0, "arg1": arg1, "length": length}


def frame(lanes, fields, payload):
    """Return the expected words, each with whether it is the last."""
    fields = {name: value for name, value in fields.items() if name != "length"}
    data = build_frame(lanes, **fields, payload=payload)
    words = [data[low:low + lanes] for low in range(0, len(data), lanes)]
    return [(word, number == len(words)) for number, word in enumerate(words, 1)]


def run(lanes, requests, sums=(), answer=b"", share=0, cycles=5_000, pause=0, sums_from=0):
    """Words that leave and their cycles, the cycles of the requests, the idle flags.

    A request is offered ``pause`` cycles after the last word, sums from a cycle on.
    """
    dut = Framer(lanes)
    step = 8 * max(1, lanes // 8)
    sums = np.asarray(sums, "<i8").tobytes()
    beats = [sums[low:low + step] for low in range(0, len(sums), step)]
    flips = [coin(seed, share) if share else never for seed in range(3)]
    words, times, asked, idle = [], [], [], []

    async def drive(ctx):
        ctx.set(dut.answer, int.from_bytes(answer, "little"))
        todo, todo_beats, held = list(requests), list(beats), None
        for cycle in range(cycles):
            if not todo and not todo_beats and cycle > 60 + max([*times, *asked]):
                break       # nothing more comes
            offer(ctx, dut.requests, flips[0],
                  todo and cycle >= pause + max([*times, *asked], default=0) and todo[0])
            offer(ctx, dut.sums, flips[1], todo_beats and cycle >= sums_from
                  and int.from_bytes(todo_beats[0], "little"))
            ready = not flips[2]()
            ctx.set(dut.o.ready, ready)
            word = look(ctx)
            if held is not None:
                assert word == held, f"{held} was withdrawn in cycle {cycle}"
            held = word if not ready else None
            if word and ready:
                words.append(word)
                times.append(cycle)
            idle.append(ctx.get(dut.idle))
            gone = [ctx.get(port.valid) and ctx.get(port.ready)
                    for port in (dut.requests, dut.sums)]
            await ctx.tick()
            if gone[0]:
                todo.pop(0)
                asked.append(cycle)
                ctx.set(dut.requests.valid, 0)
            if gone[1]:
                todo_beats.pop(0)
                ctx.set(dut.sums.valid, 0)
        assert not todo
        assert not todo_beats

    def offer(ctx, port, stalls, payload):
        if payload and (ctx.get(port.valid) or not stalls()):
            ctx.set(port.valid, 1)
            ctx.set(port.payload, payload)

    def look(ctx):
        if not ctx.get(dut.o.valid):
            return None
        return ctx.get(dut.o.p.data).to_bytes(lanes, "little"), bool(ctx.get(dut.o.p.last))

    simulate(dut, drive, cycles=cycles + 1)
    return words, times, asked, idle


def some_sums(count, seed=0):
    return np.random.default_rng(seed).integers(-2**63, 2**63, count)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("length", [24, 32])
@pytest.mark.parametrize("share", [0, 0.4])
def test_answers_are_whole_frames(lanes, length, share):
    answer = np.random.default_rng(lanes).bytes(length)
    requests = [request(0x81, sequence=255), request(0x80, length, arg0=lanes),
                request(0xFF, 0, 0, 6, 0xFFFFFFFF), request(0x83, length, 3)]
    expected = [word for fields in requests
                for word in frame(lanes, fields, answer[:fields["length"]])]
    assert run(lanes, requests, answer=answer, share=share)[0] == expected


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("share", [0, 0.4])
def test_results_take_the_sums(lanes, share):
    sums = some_sums(3 * 5 * lanes)
    requests = [request(RESULT, 40 * lanes, 9, block, block + 1) for block in range(3)]
    expected = [word for fields, part in zip(requests, sums.reshape(3, -1), strict=True)
                for word in frame(lanes, fields, part.tobytes())]
    assert run(lanes, requests, sums, share=share)[0] == expected


@pytest.mark.parametrize("lanes", LANES)
def test_answers_and_results_mix(lanes):
    sums, answer = some_sums(2 * 5 * lanes), bytes(range(1, 33))
    requests = [request(RESULT, 40 * lanes, 1), request(RESULT, 40 * lanes, 1, 1),
                request(0x83, 32, 1), request(0x81, 0, 2)]
    payloads = [sums[:5 * lanes].tobytes(), sums[5 * lanes:].tobytes(), answer, b""]
    expected = [word for fields, payload in zip(requests, payloads, strict=True)
                for word in frame(lanes, fields, payload)]
    assert run(lanes, requests, sums, answer, 0.3)[0] == expected


@pytest.mark.parametrize("lanes", LANES)
def test_a_word_a_cycle_and_at_most_three_cycles_a_frame(lanes):
    sums = some_sums(4 * 5 * lanes)
    requests = [request(RESULT, 40 * lanes, 9, block) for block in range(4)]
    words, times, _, _ = run(lanes, requests, sums)
    ends = [time for (_, last), time in zip(words, times, strict=True) if last]
    size = len(words) // 4
    for begin, end in pairwise(ends):
        assert end - begin <= size + 3
    # They come between frames and before the trailer, never inside what it covers.
    covered = size - -(-4 // lanes)
    for first in range(0, len(times), size):
        assert times[first + covered - 1] - times[first] == covered - 1


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("share", [0, 0.5])
def test_idle_tells_that_everything_requested_has_left(lanes, share):
    sums = some_sums(5 * lanes)
    requests = [request(0x81), request(RESULT, 40 * lanes), request(0x81)]
    words, times, asked, idle = run(lanes, requests, sums, share=share)
    ends = [time for (_, last), time in zip(words, times, strict=True) if last]
    for begin, end in zip(asked, ends, strict=True):
        assert not any(idle[begin + 1:end + 1])
    assert all(idle[:asked[0] + 1])
    assert all(idle[ends[-1] + 2:])


@pytest.mark.parametrize("lanes", LANES)
def test_frames_after_a_pause(lanes):
    requests = [request(0x81, sequence=number, arg0=0x01020304) for number in range(3)]
    expected = [word for fields in requests for word in frame(lanes, fields, b"")]
    assert run(lanes, requests, pause=40)[0] == expected


@pytest.mark.parametrize("lanes", LANES)
def test_a_framer_that_waits_for_sums_is_not_idle(lanes):
    _, times, asked, idle = run(lanes, [request(RESULT, 40 * lanes)], some_sums(5 * lanes),
                                sums_from=300)
    assert not any(idle[asked[0] + 1:times[-1] + 1])
    assert times[-1] > 300


@pytest.mark.parametrize("lanes", LANES)
def test_words_are_offered_to_a_sink_that_waits_for_them(lanes):
    # A sink may hold its ready back until there is a word.
    dut, sent = Framer(lanes), request(0x81, 0)
    words = frame(lanes, sent, b"")
    taken = []

    async def drive(ctx):
        ctx.set(dut.requests.p, sent)
        ctx.set(dut.requests.valid, 1)
        await ctx.tick().until(dut.requests.ready)
        ctx.set(dut.requests.valid, 0)
        for _ in range(40 * len(words)):
            valid = ctx.get(dut.o.valid)
            ctx.set(dut.o.ready, valid)
            if valid:
                taken.append((ctx.get(dut.o.p.data).to_bytes(lanes, "little"),
                              ctx.get(dut.o.p.last)))
            await ctx.tick()

    simulate(dut, drive)
    assert taken == words
