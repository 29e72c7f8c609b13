"""The driver on a faulty device or a faulty link."""

import asyncio
import re

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.golden.quantize import quantize
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError, TransportClosed
from tritstream.host.layout.prepare import prepare
from tritstream.host.protocol import exchange

from support.peer import Peer
from support.peer_faults import (
    corrupt,
    done_early,
    drop,
    duplicate,
    refuse,
    replace_arguments,
    stale_first,
    truncate,
)

IDENTIFY, ACTIVATIONS, SCALES, GEMV, STATUS = range(5)

RNG = np.random.default_rng(0)
MATRIX = quantize(RNG.standard_normal((90, 48)).astype(np.float32), 2)
OTHER = quantize(RNG.standard_normal((90, 48)).astype(np.float32), 2)
X = RNG.integers(-128, 128, (2, 48), dtype=np.int8)

# A product is [IDENTIFY, SCALES, ACTIVATIONS, ACTIVATIONS, GEMV]; at 8 lanes GEMV is answered by
# three blocks of two columns each, then DONE. All but IDENTIFY are under way together. If one of
# them fails and others are under way, the answer to STATUS comes behind theirs.
LOADS = [SCALES, ACTIVATIONS, ACTIVATIONS]
PRODUCT = [IDENTIFY, *LOADS, GEMV]
AGAIN = [STATUS, *LOADS, GEMV]
FRAME = "GEMV of row blocks 0..2 (depth 2, K = 48)"


async def product_of(device, x=X, matrix=MATRIX):
    return await device.gemv(await device.prepare(matrix), x)


def check(peer, log, **options):
    """Check that the product equals golden's after exactly the requests ``log``; return stats."""
    product, stats = asyncio.run(product_of(Device(peer, **options)))
    np.testing.assert_array_equal(product, gemv(MATRIX, X))
    assert peer.log == log
    return stats


def peer_with(faults, lanes=8, eager=False):
    peer = Peer(lanes, columns=2)
    peer.faults, peer.eager = faults, eager
    return peer


def failing(peer, **options):
    """Return the message with which the product fails, and the opcodes of the requests."""
    with pytest.raises(DeviceError) as failure:
        asyncio.run(product_of(Device(peer, **options)))
    return str(failure.value), peer.log


ANSWER_FAULTS = {
    "first header": corrupt(0, 0),
    "first header CRC": corrupt(0, 17),
    "middle header": corrupt(3, 5),
    "first payload": corrupt(0, 30),
    "middle payload": corrupt(2, 300),
    "last payload": corrupt(-2, 200),
    "trailer": corrupt(4, -8),
    "DONE": corrupt(-1, 26),
    "dropped": drop,
    "truncated header": truncate(0, 9),
    "truncated in words": truncate(2, 96),
    "truncated between words": truncate(2, 101),
    "truncated DONE": truncate(6, 24),
    "duplicate": duplicate(2),
    "DONE early": done_early,
    "block": replace_arguments(1, 3, 1),
    "column": replace_arguments(1, 0, 2),
    "block again": replace_arguments(5, 0, 0),
    "short RESULT": replace_arguments(1, 1, 1, bytes(312)),
    "long RESULT": replace_arguments(1, 1, 1, bytes(328)),
    "short DONE": replace_arguments(-1, 0, 0, bytes(24)),
    "no header": refuse(1),
    "trailer error": refuse(6, forget=True),
    "not loaded": refuse(7, forget=True),
}


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("fault", ANSWER_FAULTS.values(), ids=ANSWER_FAULTS.keys())
def test_gemv_is_repeated_after_new_loads(fault, eager):
    """Also if responses are parsed many at a time."""
    stats = check(peer_with({4: fault}, eager=eager), [*PRODUCT, *LOADS, GEMV])
    assert (stats.frames, stats.retries) == (1, 1)


@pytest.mark.parametrize("lanes", [1, 2, 16, 64])
@pytest.mark.parametrize("fault", [corrupt(0, 3), corrupt(1, -64), truncate(1, 41), duplicate(0)])
def test_gemv_is_repeated_at_every_lane_count(fault, lanes):
    check(peer_with({4: fault}, lanes, lanes > 2), [*PRODUCT, *LOADS, GEMV])


@pytest.mark.parametrize("fault", [corrupt(0, 2), corrupt(0, 26), drop, truncate(0, 13), refuse(1),
                                   refuse(6, forget=True)])
@pytest.mark.parametrize("at", range(4))
def test_loads_are_repeated(fault, at):
    stats = check(peer_with({at: fault}), [*PRODUCT, STATUS, *LOADS, GEMV] if at
                  else [IDENTIFY, *PRODUCT])
    assert stats.retries == bool(at)


def test_several_failures_in_a_row():
    faults = {4: corrupt(0, 0), 5: drop, 7: truncate(0, 9), 11: corrupt(2, 90)}
    stats = check(peer_with(faults), [*PRODUCT, SCALES, *LOADS[:2], *LOADS, GEMV, *LOADS, GEMV],
                  retries=4)
    assert stats.retries == 4


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
def test_responses_to_older_requests_are_discarded(at, eager):
    stats = check(peer_with({at: stale_first}, eager=eager), PRODUCT)
    assert stats.retries == 0


def test_results_of_a_failed_attempt_are_not_used():
    def wrong_and_damaged(peer, request, answers):
        sums = np.full(40, 123456789, "<i8").tobytes()
        for index, place in enumerate((block, column) for block in range(3) for column in (0, 1)):
            answers = replace_arguments(index, *place, sums)(peer, request, answers)
        return corrupt(1, 30)(peer, request, answers)

    check(peer_with({4: wrong_and_damaged}), [*PRODUCT, *LOADS, GEMV])


def test_frames_before_the_damaged_one_are_not_repeated():
    peer = peer_with({5: corrupt(0, 40)})
    stats = check(peer, [*PRODUCT, GEMV, GEMV, STATUS, *LOADS, GEMV, GEMV], frame_bytes=1)
    assert (stats.frames, stats.retries) == (3, 1)


def test_a_repeated_frame_is_under_way_alone():
    peer = peer_with({4: corrupt(0, 40), 11: corrupt(0, 40)})
    stats = check(peer, [*PRODUCT, GEMV, GEMV, STATUS, *LOADS, GEMV, *LOADS, GEMV, GEMV, GEMV],
                  frame_bytes=1)
    assert (stats.frames, stats.retries) == (3, 2)


def test_repeated_frames_have_new_sequence_numbers():
    peer = peer_with({4: drop, 8: corrupt(0, 0)})
    check(peer, [*PRODUCT, *LOADS, GEMV, *LOADS, GEMV])
    sequences = [request.sequence for request in peer.requests]
    assert sequences == list(range(1, len(sequences) + 1))


# Requests on the wire: IDENTIFY 128 bytes, SCALES 256, ACTIVATIONS 192 each, GEMV 2,688 of which
# 2,520 are payload.
@pytest.mark.parametrize(("offset", "log", "code"), [
    (0, PRODUCT, 1),
    (64, [IDENTIFY, *PRODUCT], 6),
    (128 + 19, [IDENTIFY, *LOADS[1:], GEMV, *AGAIN], 1),
    (128 + 64, [*PRODUCT, *AGAIN], 6),
    (384 + 2, [IDENTIFY, *LOADS[:2], GEMV, *AGAIN], 1),
    (384 + 130, [*PRODUCT, *AGAIN], 6),
    (768 + 7, [IDENTIFY, *LOADS, *LOADS, GEMV], 1),
    (768 + 64, [*PRODUCT, *LOADS, GEMV], 6),
    (768 + 64 + 2519, [*PRODUCT, *LOADS, GEMV], 6),
    (768 + 64 + 2560, [*PRODUCT, *LOADS, GEMV], 6),
])
def test_damaged_requests(offset, log, code):
    peer = peer_with({})
    peer.flips = {offset}
    check(peer, log)
    # The GEMV behind a damaged load is refused because the device does not hold what it needs.
    assert peer.errors == ([code, 7] if AGAIN[0] in log else [code])


@pytest.mark.parametrize(("start", "errors", "retries"), [
    (128 + 64, [6, 1, 7], 1), (384 + 64, [6, 1, 7], 1), (768 + 640, [6, 1], 2)])
def test_a_request_that_lost_words_absorbs_the_next_one_but_the_product_is_right(
        start, errors, retries):
    peer = peer_with({})
    peer.losses = set(range(start, start + 64))
    product, stats = asyncio.run(product_of(Device(peer)))
    np.testing.assert_array_equal(product, gemv(MATRIX, X))
    assert peer.errors == errors
    assert stats.retries == retries


@pytest.mark.parametrize(("code", "message"), [
    (2, "device refused GEMV with error 2 OPCODE: the device does not know this request; driver "
        "and gateware must be of the same version"),
    (3, "device refused GEMV with error 3 LENGTH: payload and arguments disagree; prepare the "
        "matrix for this device and, if that does not help, report a bug of the driver"),
    (4, "device refused GEMV with error 4 DEPTH: the device takes depths 1 to 4; check the depth "
        "of the matrix"),
    (5, "device refused GEMV with error 5 SIZE: a size is zero or more than the device was built "
        "for; identify it again and prepare the matrix for it"),
    (42, "device answered with unknown error 42"),
])
def test_refusals_are_final(code, message):
    message = f"{FRAME}: {message}"
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$") as failure:
        asyncio.run(product_of(Device(peer := peer_with({4: refuse(code)}))))
    assert failure.value.code == code
    assert peer.log == PRODUCT


def test_gives_up_on_silence():
    peer = peer_with({})
    peer.silent = True
    assert failing(peer) == (
        "IDENTIFY: gave up after 4 tries (1: no answer within 1 s; 2: no answer within 1 s; "
        "3: no answer within 1 s; 4: no answer within 1 s)", [IDENTIFY] * 4)


def test_gives_up_and_names_each_failure():
    message, log = failing(peer_with({4: corrupt(0, 30), 8: drop, 12: done_early}), retries=2)
    assert message == (
        f"{FRAME}: gave up after 3 tries (1: trailer CRC of answer "
        "0x82 is wrong; 2: no answer within 1 s; 3: DONE with 1 of 6 RESULTs missing)")
    assert log == [*PRODUCT, *[*LOADS, GEMV] * 2]


@pytest.mark.parametrize(("fault", "reason"), [
    (corrupt(1, 1), "answer starts with no valid header"),
    (duplicate(3), "second RESULT of block 1, column 1"),
    (replace_arguments(0, 3, 0), "RESULT of block 3, column 0 in a frame of 3 blocks, 2 columns"),
    (replace_arguments(0, 0, 2), "RESULT of block 0, column 2 in a frame of 3 blocks, 2 columns"),
    (replace_arguments(0, 0, 0, bytes(8)), "RESULT has 8 bytes where 320 are expected"),
    (replace_arguments(-1, 0, 0, bytes(8)), "DONE has 8 bytes where 32 are expected"),
    (lambda peer, request, _: [peer.answer(request, 0x81)],
     "answer 0x81 where RESULT or DONE is expected"),
    (refuse(1), "device refused with error 1 NO_HEADER: the header was damaged on its way; check "
                "the link"),
    (refuse(6), "device refused GEMV with error 6 TRAILER: the frame was damaged on its way; "
                "check the link"),
    (refuse(7), "device refused GEMV with error 7 NOT_LOADED: activations or scales are not "
                "loaded; the device may have been reset"),
])
@pytest.mark.parametrize("eager", [False, True])
def test_failures_are_named(fault, reason, eager):
    message, _ = failing(peer_with({4: fault}, eager=eager), retries=0)
    assert message == f"{FRAME}: gave up after 1 try (1: {reason})"


def test_discarded_responses_are_limited(monkeypatch):
    monkeypatch.setattr(exchange, "DISCARD_LIMIT", 400)
    message, _ = failing(peer_with({4: stale_first}), retries=0)
    assert message.endswith("(1: 416 bytes of answers to older requests)")


def test_the_limit_of_discarded_responses_is_per_request(monkeypatch):
    monkeypatch.setattr(exchange, "DISCARD_LIMIT", 500)
    stats = check(peer_with(dict.fromkeys(range(1, 5), stale_first)), PRODUCT)
    assert stats.retries == 0


def test_device_works_again_after_giving_up():
    async def twice(device):
        with pytest.raises(DeviceError):
            await product_of(device)
        return (await product_of(device))[0]

    peer = peer_with({4: refuse(6, forget=True)})
    np.testing.assert_array_equal(asyncio.run(twice(Device(peer, retries=0))), gemv(MATRIX, X))
    assert peer.log == [*PRODUCT, *LOADS, GEMV]


@pytest.mark.parametrize("at", range(5))
def test_unplugged_during_a_product(at):
    def unplug(peer, request, answers):
        peer.closed = True
        return answers

    peer = peer_with({at: unplug})
    what = re.escape(FRAME if at else "IDENTIFY")
    with pytest.raises(TransportClosed, match=f"^{what}: the peer was unplugged$"):
        asyncio.run(product_of(Device(peer)))
    assert peer.log == PRODUCT[:at + 1]


def test_errors_name_device_matrix_and_frame():
    async def ask(device):
        prepared = await device.prepare(MATRIX, "layer.3")
        return await device.gemv(prepared, X)

    for fault, error in ((refuse(4), "device refused GEMV"), (drop, "gave up after 1 try")):
        device = Device(peer_with({4: fault}), retries=0, name="board 2")
        with pytest.raises(DeviceError, match=re.escape(f"board 2: layer.3: {FRAME}: {error}")):
            asyncio.run(ask(device))
    with pytest.raises(DeviceError, match=r"^board 2: layer\.3: device has L = 8 lanes, "):
        asyncio.run(Device(Peer(), name="board 2").gemv(prepare(MATRIX, 16, 64, "layer.3"), X))


class SlowPeer(Peer):
    """A peer that lets other tasks run before each answer."""

    async def recv(self, count):
        await asyncio.sleep(0)
        return await super().recv(count)


@pytest.mark.parametrize("turns", range(1, 21))
def test_device_works_again_after_a_cancelled_product(turns):
    async def cancel_between(device):
        await product_of(device)
        task = asyncio.create_task(product_of(device, ~X, OTHER))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await product_of(device))[0]

    product = asyncio.run(cancel_between(Device(SlowPeer(columns=2))))
    np.testing.assert_array_equal(product, gemv(MATRIX, X))
