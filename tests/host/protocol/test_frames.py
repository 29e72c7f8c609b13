from zlib import crc32

import numpy as np
import pytest

from tritstream.host.errors import BadAnswer
from tritstream.host.protocol.frames import Header, answer, answers, padded, request, rest_bytes
from tritstream.hw.config import LANE_COUNTS

from support.frames import build_frame

LENGTHS = [0, 1, 16, 48, 63, 64, 65, 128, 1000]


def payload_of(length):
    return np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8).tobytes()


@pytest.mark.parametrize(("count", "align", "result"), [
    (0, 64, 0), (1, 64, 64), (64, 64, 64), (65, 64, 128), (20, 8, 24), (20, 1, 20), (4, 2, 4),
])
def test_padded(count, align, result):
    assert padded(count, align) == result


def test_request_equals_the_example_of_the_specification():
    data = b"".join(request(0x00, 7))
    assert data == (
        bytes.fromhex("5433000700000000000000000000000046027a50") + bytes(44)
        + bytes.fromhex("95b388f2") + bytes(60)
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_request_is_a_frame_of_64_byte_parts(length):
    payload = payload_of(length)
    buffers = request(0x03, 200, 0x01020304, 0xfffffffe, payload)
    assert b"".join(buffers) == build_frame(64, 0x03, 200, 0x01020304, 0xfffffffe, payload)
    assert all(len(data) > 0 and len(data) % 64 == 0 for data in buffers)


@pytest.mark.parametrize("length", [64, 100, 6400])
def test_request_does_not_copy_the_payload(length):
    payload = np.frombuffer(payload_of(length), dtype=np.uint8)
    _, body, _ = request(0x03, 1, 0, 0, memoryview(payload))
    assert np.shares_memory(np.frombuffer(body, np.uint8), payload)
    assert len(body) == length - length % 64


def test_request_takes_a_view_of_wider_items():
    values = np.arange(27, dtype="<u4")
    assert b"".join(request(0x02, 1, payload=memoryview(values))) == build_frame(
        64, 0x02, 1, payload=values.tobytes())


def test_header_parse_reverses_pack():
    header = Header(0x82, 255, 0xdeadbeef, 3, 320)
    assert len(header.pack()) == 20
    assert Header.parse(header.pack() + b"more") == header


@pytest.mark.parametrize("offset", range(20))
def test_header_with_a_wrong_byte_is_invalid(offset):
    data = bytearray(Header(0x81, 9, 1, 2, 3).pack())
    data[offset] ^= 0x10
    assert Header.parse(data) is None


def test_header_with_a_wrong_magic_and_a_right_crc_is_invalid():
    fields = bytes.fromhex("5533") + Header(0x81, 9, 1, 2, 3).pack()[2:16]
    assert Header.parse(fields + crc32(fields).to_bytes(4, "little")) is None


@pytest.mark.parametrize("lanes", LANE_COUNTS)
@pytest.mark.parametrize("length", LENGTHS)
def test_answer_is_padded_to_words(lanes, length):
    data = build_frame(lanes, 0x82, 4, 5, 6, payload_of(length))
    header = Header.parse(data)
    assert rest_bytes(header, lanes) == len(data) - 20
    whole = answer(header, data[20:], lanes)
    assert whole.header == Header(0x82, 4, 5, 6, length)
    assert whole.payload == payload_of(length)


@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_answer_wrong_crc(lanes):
    data = build_frame(lanes, 0x83, 4, payload=payload_of(30))
    header, covered = Header.parse(data), len(data) - padded(4, lanes) + 4
    for offset in range(20, covered):
        damaged = bytearray(data)
        damaged[offset] ^= 1
        with pytest.raises(BadAnswer, match=r"^trailer CRC of answer 0x83 is wrong$"):
            answer(header, bytes(damaged[20:]), lanes)


def test_answers_need_a_valid_header():
    with pytest.raises(BadAnswer, match="^answer starts with no valid header$"):
        answers(bytes(64), 8, 64)


def test_answer_ignores_padding_of_the_trailer():
    data = build_frame(64, 0x83, 4, payload=payload_of(30))[:-60] + b"\xff" * 60
    assert answer(Header.parse(data), data[20:], 64).payload == payload_of(30)
