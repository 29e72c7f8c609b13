"""CRCs of payloads that do not change."""

from zlib import crc32

import numpy as np
import pytest

from tritstream.host.protocol.crc import crc32_combine
from tritstream.host.protocol.frames import joined, payload_crc, request, valid_count
from tritstream.host.transports.base import Stored
from tritstream.hw.config import LANE_COUNTS

from support.frames import build_frame


def data_of(length, seed=0):
    return np.random.default_rng([seed, length]).bytes(length)


@pytest.mark.parametrize("length", [0, 1, 64, 1000, 70_001])
def test_combined_equals_computed(length):
    first, second = data_of(64), data_of(length, 1)
    assert crc32_combine(crc32(first), crc32(second), length) == crc32(first + second)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 4096, 5000])
def test_a_request_with_a_known_crc_has_the_same_bytes(length):
    payload = data_of(length)
    known = payload_crc(payload)
    assert known == crc32(payload.ljust(length + -length % 64, b"\0"))
    assert b"".join(request(3, 9, 1, 2, payload, known)) == b"".join(request(3, 9, 1, 2, payload))


@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_responses_are_valid_up_to_the_first_that_is_not(lanes):
    frames = [build_frame(lanes, 0x82, 5, block, 0, bytes([block]) * 40 * lanes)
              for block in range(5)]
    size, data = len(frames[0]), b"".join(frames)
    assert valid_count(data, size, lanes) == 5
    assert valid_count(b"", size, lanes) == 0
    for wrong in range(5):
        damaged = bytearray(data)
        damaged[wrong * size + 21] ^= 1
        assert valid_count(bytes(damaged), size, lanes) == wrong


def test_padding_of_a_trailer_does_not_count():
    frame = bytearray(build_frame(64, 0x81, 5))
    frame[-1] = 1
    assert valid_count(bytes(frame), len(frame), 64) == 1


def test_short_buffers_are_joined():
    stored, long = Stored(64, 128, 7), memoryview(bytes(1 << 16))
    assert list(joined([b"a", b"b", stored, b"c", long, memoryview(b"d")])) == [
        b"ab", stored, b"c", long, b"d"]
    assert list(joined([])) == []
