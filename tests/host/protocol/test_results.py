"""Row sums from RESULTs: many at once, and one by one where anything is irregular."""

import numpy as np
import pytest

from tritstream.host.errors import BadAnswer
from tritstream.host.protocol.frames import Answer, Header
from tritstream.host.protocol.results import Results
from tritstream.hw.config import LANE_COUNTS

from support.frames import build_frame

RESULT, SEQUENCE = 0x82, 200


def frames_of(sums, lanes, sequence=SEQUENCE):
    """RESULT frames of row sums (columns, blocks, 5 lanes), in the order of a device."""
    columns, blocks, _ = sums.shape
    return [build_frame(lanes, RESULT, sequence, block, column,
                        sums[column, block].astype("<i8").tobytes())
            for block in range(blocks) for column in range(columns)]


def sums_of(blocks, columns, lanes, seed=0):
    return np.random.default_rng(seed).integers(-2**45, 2**45, (columns, blocks, 5 * lanes))


@pytest.mark.parametrize("lanes", LANE_COUNTS)
@pytest.mark.parametrize(("blocks", "columns"), [(1, 1), (3, 2), (300, 1)])
def test_all_at_once(lanes, blocks, columns):
    sums = sums_of(blocks, columns, lanes)
    results, data = Results(blocks, columns, lanes), bytearray(b"".join(frames_of(sums, lanes)))
    assert results.add_all(data + b"more", SEQUENCE) == len(data)
    results.close()
    np.testing.assert_array_equal(results.sums, sums)


def test_blocks_and_sequence_numbers_beyond_a_byte():
    """The headers that are expected equal those that are packed one by one."""
    lanes, blocks = 1, 70_000
    sums = np.zeros((1, blocks, 5), np.int64)
    for sequence in (1, 255):
        results = Results(blocks, 1, lanes)
        data = bytearray(b"".join(frames_of(sums, lanes, sequence)))
        assert results.add_all(data, sequence) == len(data)


@pytest.mark.parametrize("whole", [0, 1, 2, 3])
def test_in_pieces(whole):
    lanes, sums = 8, sums_of(3, 2, 8)
    data, results = bytearray(b"".join(frames_of(sums, lanes))), Results(3, 2, lanes)
    size = len(data) // 6
    at = results.add_all(data[:whole * size + size - 1], SEQUENCE)
    assert at == whole * size
    assert results.add_all(data[at:], SEQUENCE) == len(data) - at
    np.testing.assert_array_equal(results.sums, sums)


@pytest.mark.parametrize("offset", [*range(20), 24, 343, 344, 347])
def test_what_is_damaged_is_left(offset):
    """Every byte but the padding of header and trailer counts, in the header as in the payload."""
    lanes, sums = 8, sums_of(4, 1, 8)
    frames, results = frames_of(sums, lanes), Results(4, 1, 8)
    damaged = bytearray(frames[2])
    damaged[offset] ^= 0x10
    data = bytearray(b"".join([*frames[:2], bytes(damaged), frames[3]]))
    assert results.add_all(data, SEQUENCE) == 2 * len(frames[0])
    with pytest.raises(BadAnswer, match="^DONE with 2 of 4 RESULTs missing$"):
        results.close()
    np.testing.assert_array_equal(results.sums[0, :2], sums[0, :2])


@pytest.mark.parametrize("change", [
    pytest.param({"opcode": 0x83}, id="opcode"), pytest.param({"sequence": 7}, id="sequence"),
    pytest.param({"arg0": 0}, id="block again"), pytest.param({"arg0": 2}, id="block left out"),
    pytest.param({"arg1": 1}, id="column"), pytest.param({"payload": bytes(312)}, id="length")])
def test_a_valid_response_that_is_not_expected_is_left(change):
    """Its CRCs are right, so only its fields tell."""
    lanes, sums = 8, sums_of(3, 1, 8)
    first, *_ = frames_of(sums, lanes)
    fields = {"opcode": RESULT, "sequence": SEQUENCE, "arg0": 1, "arg1": 0,
              "payload": bytes(320)} | change
    other = build_frame(lanes, **fields)
    assert Results(3, 1, lanes).add_all(bytearray(first + other.ljust(352, b"\0")),
                                        SEQUENCE) == len(first)


def test_after_a_result_out_of_order_none_is_added_at_once():
    lanes, sums = 8, sums_of(3, 1, 8)
    results, frames = Results(3, 1, lanes), frames_of(sums, lanes)
    results.add(Answer(Header(RESULT, SEQUENCE, 1, 0, 320), sums[0, 1].astype("<i8").tobytes()))
    assert results.add_all(bytearray(b"".join(frames)), SEQUENCE) == 0
    results.add(Answer(Header(RESULT, SEQUENCE, 0, 0, 320), sums[0, 0].astype("<i8").tobytes()))
    with pytest.raises(BadAnswer, match="^second RESULT of block 1, column 0$"):
        results.add(Answer(Header(RESULT, SEQUENCE, 1, 0, 320), bytes(320)))


DONE, ACK = 0x83, 0x81
COUNTS = bytes(range(32))
LOADS = [198, 199]


def responses(sums, lanes, loads=LOADS):
    """What a device sends to loads and then to a GEMV."""
    return [*(build_frame(lanes, ACK, load) for load in loads), *frames_of(sums, lanes),
            build_frame(lanes, DONE, SEQUENCE, payload=COUNTS)]


@pytest.mark.parametrize("lanes", LANE_COUNTS)
@pytest.mark.parametrize("loads", [[], [255], LOADS])
def test_all_responses_at_once(lanes, loads):
    sums = sums_of(3, 2, lanes)
    results = Results(3, 2, lanes)
    data = bytearray(b"".join(responses(sums, lanes, loads)) + b"more")
    assert results.take_all(data, loads, SEQUENCE) == COUNTS
    assert data == b"more"
    results.close()
    np.testing.assert_array_equal(results.sums, sums)


@pytest.mark.parametrize("before", range(5))
def test_the_rest_at_once_after_some_results(before):
    """Also DONE alone, after all RESULTs."""
    lanes, sums = 8, sums_of(4, 1, 8)
    first, rest = frames_of(sums, lanes)[:before], responses(sums, lanes, [])[before:]
    results = Results(4, 1, lanes)
    assert results.add_all(bytearray(b"".join(first)), SEQUENCE) == len(b"".join(first))
    data = bytearray(b"".join(rest))
    assert results.take_all(data, [], SEQUENCE) == COUNTS
    assert not data
    results.close()
    np.testing.assert_array_equal(results.sums, sums)


def refused(data, loads=LOADS):
    """Whether all responses at once are refused, and nothing was taken from them."""
    results, left = Results(2, 1, 8), bytearray(data)
    assert results.take_all(left, loads, SEQUENCE) is None
    with pytest.raises(BadAnswer, match="^DONE with 2 of 2 RESULTs missing$"):
        results.close()
    return left == data


def test_each_byte_counts():
    whole = b"".join(responses(sums_of(2, 1, 8), 8))
    for at in range(len(whole)):
        assert refused(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
        assert refused(whole[:at])


def test_valid_responses_that_are_not_due():
    """Their CRCs are right, so only their headers tell."""
    first, second, one, two, done = responses(sums_of(2, 1, 8), 8)
    other = build_frame(8, DONE, SEQUENCE + 1, payload=COUNTS)
    for frames in ([second, first, one, two, done], [first, second, two, one, done],
                   [first, first, one, two, done], [first, second, one, one, done],
                   [first, second, one, two, other], [first, second, one, done, two]):
        assert refused(b"".join(frames))
    assert refused(b"".join([first, second, one, two, done]), loads=[LOADS[0], 7])


def test_after_a_result_out_of_order_not_all_are_taken():
    sums = sums_of(2, 1, 8)
    results, data = Results(2, 1, 8), bytearray(b"".join(responses(sums, 8, [])))
    results.add(Answer(Header(RESULT, SEQUENCE, 1, 0, 320), sums[0, 1].astype("<i8").tobytes()))
    assert results.take_all(data, [], SEQUENCE) is None
