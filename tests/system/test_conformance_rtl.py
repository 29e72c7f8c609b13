"""Vectors on the RTL, and the RTL compared with the independent device on random frames."""

import random
from collections import Counter

import pytest

from tritstream.hw.config import LANE_COUNTS, DeviceConfig
from tritstream.scripts.assurance.vectors.replay import mismatch
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

from conformance.device import Device, build_frame
from support.vector_cases import described, paths, session_bytes
from support.wire import CONFIGS


def check_rtl(config, stalls=0.0):
    """Play all sessions that fit a device on the RTL, and return their number.

    ``stalls`` is the share of cycles in which source and sink pause.
    """
    library = build_native(config.lanes, device_rtl(config)).library
    checked = 0
    for path in paths(f"frames/L{config.lanes}/"):
        session, (requests, answers) = described(path), session_bytes(path)
        if all(getattr(config, name) >= least for name, least in session["needs"].items()):
            with NativeDevice(library) as device:
                device.stall(1, stalls, stalls)
                got = spoken(device, requests, len(answers))
            assert mismatch(session, answers, got) is None, path
            checked += 1
    return checked


def spoken(device, requests, size):
    """Return everything that a device sends, even if it is more than ``size`` bytes."""
    device.push(requests)
    answers = device.pull(size)
    device.stall(0)
    device.idle(1000)
    return answers + device.ready()


@pytest.mark.parametrize("name", CONFIGS)
def test_sessions_on_the_rtl(name):
    config = CONFIGS[name]
    wide = config.max_k == 32768
    assert check_rtl(config) == 3 + 4 * min(config.columns, 2) + wide + (wide and config.lanes == 1)


def test_sessions_under_back_pressure():
    assert check_rtl(CONFIGS["2 columns"], 0.4) == 11


@pytest.mark.long
@pytest.mark.parametrize("stalls", [0.0, 0.3])
@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_all_sessions_on_the_rtl(lanes, stalls):
    assert check_rtl(DeviceConfig(lanes=lanes, columns=2), stalls) == 12 + (lanes == 1)


def soup(rng, lanes):
    """Requests of all kinds in any order, some damaged, with garbage and zeros in between."""
    kinds = (product, product, any_load, any_gemv, any_gemv, any_other, any_other, garbage)
    return b"".join(damaged(rng, data) for _ in range(60) for data in rng.choice(kinds)(rng, lanes))


def product(rng, lanes):
    groups, blocks, depth = rng.randrange(1, 3), rng.randrange(1, 4), rng.randrange(1, 5)
    yield build_frame(64, 1, rng.randrange(256), 0, 16 * groups, rng.randbytes(16 * groups))
    yield scales(rng, 17)
    yield gemv_frame(rng, lanes, depth, groups, 1, blocks)


def any_load(rng, lanes):
    k = rng.choice([16, 32, 48, 24])
    yield build_frame(64, 1, rng.randrange(256), rng.randrange(2), k, rng.randbytes(k))
    yield scales(rng, rng.choice([17, 18]))


def any_gemv(rng, lanes):
    yield gemv_frame(rng, lanes, rng.randrange(6), rng.randrange(4), rng.randrange(3),
                     rng.randrange(4), rng.choice([0, 0, 0, 1, lanes]))


def any_other(rng, lanes):
    yield build_frame(64, rng.choice([0, 4, 4, 4, 5, 6, 255]), rng.randrange(256),
                      payload=rng.choice([b"", b"", b"x"]))


def garbage(rng, lanes):
    yield rng.choice([b"\x54", b"\x33", b"\0", b"\x54\x33"]) * 64 + rng.randbytes(64)


def scales(rng, bits):
    payload = b"".join(rng.randrange(1 << bits).to_bytes(4, "little") for _ in range(27))
    return build_frame(64, 2, rng.randrange(256), payload=payload)


def gemv_frame(rng, lanes, depth, groups, columns, blocks, more=0):
    words = rng.randbytes(blocks * groups * (16 * depth + 3) * lanes + more)
    sizes = depth | groups << 8 | columns << 24
    return build_frame(64, 3, rng.randrange(256), sizes, blocks, words)


def damaged(rng, data):
    """Data, or in one of eight cases with a bit inverted, often of a header or a trailer."""
    if rng.randrange(8):
        return data
    wrong = bytearray(data)
    wrong[rng.choice([rng.randrange(20), rng.randrange(len(data)), -64])] ^= 1 << rng.randrange(8)
    return bytes(wrong)


def frames_of(answers, lanes):
    """Answers, with what only hardware can know set to 0."""
    found = []
    while answers:
        opcode, sequence = answers[2:4]
        arg0, arg1, length = (int.from_bytes(answers[at:at + 4], "little") for at in (4, 8, 12))
        head = 20 + -20 % lanes
        payload = answers[head:head + length]
        fields = {0x80: slice(8, 24), 0x83: slice(0, 24), 0x84: slice(24, 32)}.get(opcode, slice(0))
        payload = bytearray(payload)
        payload[fields] = bytes(len(payload[fields]))
        found.append((opcode, sequence, arg0, arg1, bytes(payload)))
        answers = answers[head + length + -length % lanes + 4 + -4 % lanes:]
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_rtl_and_document_agree_on_anything(name):
    config = CONFIGS[name]
    rng = random.Random(config.lanes + config.columns)
    library = build_native(config.lanes, device_rtl(config)).library
    seen = Counter()
    for _ in range(3):
        requests = soup(rng, config.lanes)
        # Zeros, so that a candidate at the end of the requests is complete.
        requests += bytes(64) + build_frame(64, 4, 9)
        expected = Device(config.lanes, config.columns, config.max_k).feed(requests)
        with NativeDevice(library) as device:
            got = spoken(device, requests, len(expected))
        assert frames_of(got, config.lanes) == frames_of(expected, config.lanes)
        seen.update((opcode, arg0) if opcode == 255 else opcode
                    for opcode, _, arg0, _, _ in frames_of(expected, config.lanes))
    assert seen.keys() >= {0x80, 0x81, 0x82, 0x83, 0x84, *((255, code) for code in range(1, 8))}
