import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest

from tritstream.hw.framing.deframer import Deframer
from tritstream.sim.harness import simulate
from tritstream.sim.streams import coin, never

from support.frames import build_frame, build_header, pad

LANES = [1, 4, 16, 64]
#: Where the rest of the word counts, not its size.
SMALL = [1, 16]
LOST = ("lost",)


FIELDS = {"opcode": 0x42, "sequence": 7, "arg0": 0x01020304, "arg1": 0xF1F2F3F4}


def frame(payload=b"", **options):
    return build_frame(64, payload=payload, **FIELDS | options)


def events_of(lanes, payload=b"", good=True, fill=b"\0", **fields):
    """What a frame is split into."""
    padded = pad(payload, 64, fill)
    header = build_header(length=len(payload), **FIELDS | fields)
    return [("header", header[:16]),
            *(("word", padded[low:low + lanes], low + lanes >= len(payload))
              for low in range(0, len(payload), lanes)),
            ("verdict", good)]


def run(lanes, data, share=0, cuts=()):
    """Events in order, the cycle of each, and the cycle in which each word was taken.

    After so many words as ``cuts`` tell, the frame at hand is abandoned.
    """
    dut = Deframer(lanes)
    words = [data[low:low + lanes] for low in range(0, len(data), lanes)]
    source = coin(lanes, share) if share else never
    streams = {"headers": dut.headers, "payload": dut.payload, "frame_status": dut.frame_status}
    sinks = {name: coin(seed, share) if share else never for seed, name in enumerate(streams)}
    cuts = list(cuts)
    events, times, taken = [], [], []
    cycles = 20 * len(words) + 1_000

    async def drive(ctx):
        held, header = {}, None
        for cycle in range(cycles):
            ctx.set(dut.abandon, cuts[:1] == [len(taken)])
            if len(taken) == len(words) and not cuts and cycle > max([*times, *taken]) + 60:
                break       # nothing more comes
            if ctx.get(dut.abandon):
                ctx.set(dut.i.valid, 0)
                if ctx.get(dut.abandoned):
                    cuts.pop(0)
            elif len(taken) < len(words) and (ctx.get(dut.i.valid) or not source()):
                ctx.set(dut.i.valid, 1)
                ctx.set(dut.i.payload, int.from_bytes(words[len(taken)], "little"))
            for name, stalls in sinks.items():
                ctx.set(streams[name].ready, not stalls())
            for name, sink in streams.items():
                valid, ready = ctx.get(sink.valid), ctx.get(sink.ready)
                value = event(ctx, name) if valid else None
                if held.get(name) is not None:
                    assert value == held[name], f"{name}: {held[name]} was withdrawn"
                held[name] = value if not ready else None
                if valid and ready:
                    events.append(value)
                    times.append(cycle)
            header = check_header(ctx, header)
            was_taken = ctx.get(dut.i.valid) and ctx.get(dut.i.ready)
            await ctx.tick()
            if was_taken:
                taken.append(cycle)
                ctx.set(dut.i.valid, 0)
        assert len(taken) == len(words) and not cuts

    def event(ctx, name):
        if name == "frame_status":
            return "verdict", bool(ctx.get(dut.frame_status.payload))
        if name == "payload":
            word = ctx.get(dut.payload.p)
            return "word", word.data.to_bytes(lanes, "little"), bool(word.last)
        if ctx.get(dut.headers.p.out_of_sync):
            return LOST
        return "header", header_bytes(ctx)

    def header_bytes(ctx):
        return ctx.get(dut.headers.p.header.as_value()).to_bytes(16, "little")

    def check_header(ctx, header):
        """A header stands still from its arrival until its verdict is taken."""
        if events and events[-1][0] == "header" and header is None:
            header = events[-1][1]
        if header is not None:
            assert header_bytes(ctx) == header
        return None if events and events[-1][0] == "verdict" else header

    simulate(dut, drive, cycles=cycles + 1)
    return events, times, taken


LENGTHS = [0, 1, 16, 63, 65, 128]


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("share", [0, 0.4])
def test_frames_are_split_into_header_payload_and_verdict(lanes, share):
    rng = np.random.default_rng(lanes)
    frames = [(rng.bytes(length), {"sequence": n, "opcode": 0x41 + n})
              for n, length in enumerate(LENGTHS)]
    data = b"".join(frame(payload, **fields) for payload, fields in frames)
    expected = [event for payload, fields in frames
                for event in events_of(lanes, payload, **fields)]
    assert run(lanes, data, share)[0] == expected


@pytest.mark.parametrize("lanes", LANES)
def test_wrong_trailer_is_told_and_the_next_frame_found(lanes):
    data = (frame(b"abc", spoil_trailer=1) + frame() + frame(spoil_trailer=1 << 31)
            + frame(b"abc"))
    assert run(lanes, data)[0] == (events_of(lanes, b"abc", good=False) + events_of(lanes)
                                   + events_of(lanes, good=False) + events_of(lanes, b"abc"))


@pytest.mark.parametrize("lanes", SMALL)
def test_trailer_covers_every_byte_with_its_padding(lanes):
    places = [20, 63, 64, 67, 68, 127]
    data = b""
    for place in places:
        spoilt = bytearray(frame(b"abcd"))
        spoilt[place] ^= 0x10
        data += spoilt
    events = run(lanes, data + frame(b"abcd"))[0]
    assert [good for name, good in (event for event in events if event[0] == "verdict")] == [
        *(len(places) * [False]), True]


@pytest.mark.parametrize("lanes", SMALL)
def test_padding_that_is_not_zero_is_accepted(lanes):
    data = frame(b"abcde", fill=b"\xa5T3") + frame(b"", fill=b"\xff") + frame(b"abcde")
    assert run(lanes, data, 0.3)[0] == (events_of(lanes, b"abcde", fill=b"\xa5T3")
                                        + events_of(lanes) + events_of(lanes, b"abcde"))


@pytest.mark.parametrize("lanes", SMALL)
@pytest.mark.parametrize("share", [0, 0.5])
def test_zeros_between_frames_are_skipped_silently(lanes, share):
    zeros = bytes(lanes)
    data = 5 * zeros + frame(b"x") + zeros + frame() + 70 * zeros + frame(b"yz") + 3 * zeros
    assert run(lanes, data, share)[0] == (events_of(lanes, b"x") + events_of(lanes)
                                          + events_of(lanes, b"yz"))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("share, words", [(0, 1), (0.5, 9)])
def test_garbage_is_one_loss_a_hunt(lanes, share, words):
    rng = np.random.default_rng(words)
    # Never zero and never the magic's first byte.
    garbage = rng.integers(0x60, 0xFF, words * lanes, np.uint8).tobytes()
    data = (garbage + frame(b"x") + garbage + bytes(3 * lanes) + garbage + frame()
            + frame(b"y") + garbage)
    expected = [LOST, *events_of(lanes, b"x"), LOST, *events_of(lanes), *events_of(lanes, b"y"),
                LOST]
    assert run(lanes, data, share)[0] == expected


@pytest.mark.parametrize("lanes", LANES)
def test_candidate_with_a_wrong_header_crc_is_dropped_whole(lanes):
    # What it takes with it looks like the begin of another candidate.
    size = -(-20 // lanes) * lanes
    fields = FIELDS | {"arg0": 0x33543354, "arg1": 0x33543354}
    one, two = (build_header(**fields, spoil=spoil).ljust(size, b"T") for spoil in (1, 1 << 31))
    data = one + frame(b"x") + two + one + frame(b"y")
    assert run(lanes, data)[0] == [LOST, *events_of(lanes, b"x"), LOST, *events_of(lanes, b"y")]


@pytest.mark.parametrize("lanes", SMALL)
def test_spoilt_frame_is_hunted_through(lanes):
    data = frame(b"payload" * 20, spoil_header=0x100) + frame(b"x")
    assert run(lanes, data, 0.3)[0] == [LOST, *events_of(lanes, b"x")]


@pytest.mark.parametrize("lanes", SMALL)
def test_frame_in_a_payload_is_payload(lanes):
    inner = frame(b"inner", opcode=5)
    assert run(lanes, frame(inner) + frame())[0] == events_of(lanes, inner) + events_of(lanes)


@pytest.mark.parametrize("lanes", [4, 16, 64])
def test_magic_counts_at_the_begin_of_a_word_only(lanes):
    data = b"\1" + frame()[:-1] + frame(b"x")
    assert run(lanes, data)[0] == [LOST, *events_of(lanes, b"x")]


@pytest.mark.parametrize("garbage", [b"T", b"TT", b"TTT", b"3", b"T3", b"\0T", b"T\0", b"T\0T",
                                     b"3T", b"T3T", b"xT", b"xTT"])
def test_part_of_the_magic_is_garbage_for_one_lane(garbage):
    # A candidate that never was takes the rest of its 20 bytes with it.
    filler = bytes(20) if b"T3" in garbage else b""
    data = garbage + filler + frame(b"x") + frame(b"y")
    assert run(1, data, 0.2)[0] == [LOST, *events_of(1, b"x"), *events_of(1, b"y")]


@pytest.mark.parametrize("lanes", LANES)
def test_payload_words_pass_in_the_cycle_in_which_they_come(lanes):
    payload = bytes(range(256))
    events, times, taken = run(lanes, frame(payload))
    passed = [time for event, time in zip(events, times, strict=True) if event[0] == "word"]
    first = 64 // lanes
    assert passed == taken[first:first + len(passed)]
    assert passed == list(range(passed[0], passed[0] + 256 // lanes))


@pytest.mark.parametrize("lanes", LANES)
def test_frame_costs_its_words_and_at_most_twelve_cycles(lanes):
    frames = [frame(bytes(length)) for length in (0, 0, 64, 64, 200, 1, 0)]
    *_, taken = run(lanes, b"".join(frames))
    words = [len(data) // lanes for data in frames]
    begins = [taken[sum(words[:number])] for number in range(len(frames))]
    for number, (begin, following) in enumerate(pairwise(begins)):
        assert following - begin <= words[number] + 12, f"frame {number}"


@pytest.mark.parametrize("lanes", LANES)
def test_abandoned_frame_ends_where_it_is(lanes):
    payload = bytes(range(1, 101))
    whole = frame(payload)
    places = [1, 2, 19, 20, 63, 64, 65, 163, 164, 191, 192, 195, 196, 255, 256]
    for took in sorted({-(-place // lanes) * lanes for place in places}):
        covered = max(0, min(took - 64, len(payload)))
        header, *words, _ = events_of(lanes, payload)
        due = [header, *words[:-(-covered // lanes)], ("verdict", took >= 196)]
        if took < 20:
            due = [LOST]
        data = whole[:took] + frame(b"x")
        for share in (0, 0.3):
            events = run(lanes, data, share, [took // lanes])[0]
            assert events == due + events_of(lanes, b"x"), f"{took} bytes of {len(whole)}"


def test_what_is_left_of_an_older_trailer_makes_no_verdict_good():
    """Three bytes of a trailer, which that of the frame before completes to the right four."""
    first = frame(b"y")
    last = first[128 + 3]
    second = next(whole for whole in map(frame, map(bytes, zip(range(256)))) if whole[128] == last)
    payload = second[64:65]
    data = first + second[:128] + second[129:132] + frame(b"x")
    header, *words, _ = events_of(1, payload)
    assert run(1, data, 0, [len(first) + 131])[0] == [
        *events_of(1, b"y"), header, *words, ("verdict", False), *events_of(1, b"x")]


@pytest.mark.parametrize("lanes", SMALL)
def test_abandoning_nothing_is_nothing(lanes):
    data = frame() + frame(b"x")
    assert run(lanes, data, 0.3, [0, 0, len(frame()) // lanes])[0] == (
        events_of(lanes) + events_of(lanes, b"x"))


@pytest.mark.parametrize("lanes", SMALL)
def test_abandoning_ends_a_hunt(lanes):
    garbage = b"\xa5" * 64
    assert run(lanes, 2 * garbage + frame(b"x"), 0, [64 // lanes])[0] == [
        LOST, LOST, *events_of(lanes, b"x")]


@pytest.mark.parametrize("lanes", LANES)
def test_a_header_with_a_wrong_bit_in_its_magic_is_garbage(lanes):
    """Its CRC is right, so only the magic is wrong. One lane sees a first byte before it."""
    data, due = b"", []
    for bit in range(16):
        fields = struct.pack("<HBBIII", 0x3354 ^ 1 << bit, *FIELDS.values(), 0)
        header = (fields + struct.pack("<I", zlib.crc32(fields))).ljust(64, b"\0")
        for before in (b"", b"T") if lanes == 1 else (b"",):
            data += before + header + frame()
            due += [LOST, *events_of(lanes)]
    assert run(lanes, data)[0] == due


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_every_bit_of_a_length_counts(lanes):
    """A frame of any long length is cut short: none of its words is the last."""
    begin = bytes(range(2 * lanes))
    _, *words, _ = events_of(lanes, begin)
    data, due = b"", []
    for bit in range(8, 32):
        for length in (1 << bit, (1 << bit) + lanes, (1 << bit) + 2 * lanes):
            header = build_header(**FIELDS, length=length).ljust(64, b"\0")
            data += header + begin
            due += [("header", header[:16]), *((name, word, False) for name, word, _ in words),
                    ("verdict", False)]
    size = 64 // lanes + 2
    cuts = range(size, len(data) // lanes + 1, size)
    assert run(lanes, data, 0, cuts)[0] == due


@pytest.mark.parametrize("lanes", [1, 2, 4, 16])
def test_padding_of_every_length_is_taken(lanes):
    payloads = [bytes(range(1, 65 - padding)) for padding in (1, 2, 4, 8, 16, 32)]
    assert run(lanes, b"".join(map(frame, payloads)))[0] == [
        event for payload in payloads for event in events_of(lanes, payload)]


@pytest.mark.parametrize("lanes", [4, 16])
def test_every_bit_of_the_trailer_counts(lanes):
    data = b"".join(frame(spoil_trailer=1 << bit) for bit in range(32))
    assert run(lanes, data)[0] == 32 * events_of(lanes, good=False)


@pytest.mark.parametrize("lanes", SMALL)
def test_a_single_bit_is_garbage(lanes):
    bits = [bit for bit in range(8 * lanes) if bit % 31 < 8 or bit == 8 * lanes - 1]
    data = b"".join((1 << bit).to_bytes(lanes, "little") + frame(b"x") for bit in bits)
    assert run(lanes, data)[0] == len(bits) * [LOST, *events_of(lanes, b"x")]
