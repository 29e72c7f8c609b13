import asyncio

import pytest

from tritstream.host.errors import BadAnswer, TransportTimeout
from tritstream.host.protocol.answer_reader import HUNT_LIMIT, AnswerReader
from tritstream.host.transports.base import Transport
from tritstream.hw.config import LANE_COUNTS

from support.frames import build_frame


class Tape(Transport):
    """Transport that returns given bytes. ``data`` has the bytes that are left."""

    def __init__(self, data):
        self.data = data

    async def send(self, data):
        raise AssertionError("a reader does not send")

    async def recv(self, count):
        if len(self.data) < count:
            raise TransportTimeout("tape ends")
        data, self.data = self.data[:count], self.data[count:]
        return data

    def close(self):
        pass


def info(lanes, sequence=1):
    return build_frame(lanes, 0x80, sequence, lanes, 0, bytes(24))


def ack(lanes, sequence):
    return build_frame(lanes, 0x81, sequence)


def reader_of(lanes, *frames, known=True):
    """Return a reader and its tape; the reader is in sync after an INFO if ``known``."""
    tape = Tape(b"".join((info(lanes), *frames) if known else frames))
    reader = AnswerReader(tape)
    if known:
        assert read(reader).header.opcode == 0x80
    return reader, tape


def read(reader):
    return asyncio.run(reader.read())


@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_info_reports_the_lanes(lanes):
    reader, tape = reader_of(lanes, info(lanes, 3), ack(lanes, 4), known=False)
    assert read(reader).header.sequence == 3
    assert reader.lanes == lanes
    assert read(reader).header.sequence == 4
    assert tape.data == b""


def test_info_with_impossible_lanes_is_invalid():
    reader, _ = reader_of(8, build_frame(8, 0x80, 1, 12, 0, bytes(24)), info(8, 2), known=False)
    assert read(reader).header.sequence == 2


@pytest.mark.parametrize("lanes", [1, 4, 64])
def test_older_responses_before_the_first_info_are_skipped(lanes):
    result = build_frame(lanes, 0x82, 9, 0, 0, bytes(range(40)) * lanes)
    reader, tape = reader_of(lanes, result[7:], result, ack(lanes, 8), info(lanes, 2), known=False)
    assert read(reader).header.sequence == 2
    assert tape.data == b""


def test_error_is_valid_before_the_first_info():
    reader, _ = reader_of(16, build_frame(16, 0xff, 5, 2, 0), info(16, 6), known=False)
    error = read(reader).header
    assert (error.opcode, error.sequence, error.arg0) == (0xff, 5, 2)
    assert read(reader).header.sequence == 6


def test_forgotten_lanes_come_from_the_next_info():
    reader, _ = reader_of(8, bytes(12), info(16, 3), ack(16, 4))
    reader.forget_lanes()
    assert read(reader).header.sequence == 3
    assert read(reader).header.sequence == 4
    assert reader.lanes == 16


@pytest.mark.parametrize("lanes", [1, 8, 32])
@pytest.mark.parametrize("offset", [0, 3, 19])
def test_damaged_header_is_an_error_and_the_next_answer_is_found(lanes, offset):
    damaged = bytearray(build_frame(lanes, 0x82, 2, 0, 0, bytes(40 * lanes)))
    damaged[offset] ^= 0x40
    reader, tape = reader_of(lanes, bytes(damaged), ack(lanes, 3), ack(lanes, 4))
    with pytest.raises(BadAnswer, match=r"^answer starts with no valid header$"):
        read(reader)
    assert [read(reader).header.sequence for _ in range(2)] == [3, 4]
    assert tape.data == b""


@pytest.mark.parametrize("lanes", [1, 8, 32])
def test_damaged_payload_is_an_error_and_the_next_answer_is_found(lanes):
    damaged = bytearray(build_frame(lanes, 0x82, 2, 0, 0, bytes(40 * lanes)))
    damaged[-lanes - 1] ^= 0x40
    reader, _ = reader_of(lanes, bytes(damaged), ack(lanes, 3))
    with pytest.raises(BadAnswer, match=r"^trailer CRC of answer 0x82 is wrong$"):
        read(reader)
    assert read(reader).header.sequence == 3


@pytest.mark.parametrize("lost", [1, 5, 8, 21, 60])
def test_lost_bytes_are_an_error_and_word_alignment_recovers(lost):
    result = build_frame(8, 0x82, 2, 0, 0, bytes(320))
    reader, tape = reader_of(8, result[:30] + result[30 + lost:])
    with pytest.raises(TransportTimeout, match=r"^tape ends$"):
        read(reader)
    tape.data += ack(8, 3) + ack(8, 4)
    assert [read(reader).header.sequence for _ in range(2)] == [3, 4]


@pytest.mark.parametrize("length", range(1, 70))
@pytest.mark.parametrize("filler", [b"\x00", b"\x54", b"\x33", b"\x54\x33", b"\x33\x54\x54"])
def test_hunt_reads_no_byte_after_the_response(length, filler):
    garbage = (filler * length)[:length]
    reader, tape = reader_of(1, known=False)
    tape.data = garbage + info(1, 5)
    assert read(reader).header.sequence == 5
    assert tape.data == b""


def test_silence_within_a_header_loses_nothing():
    reader, tape = reader_of(8)
    tape.data = ack(8, 3)[:10]
    with pytest.raises(TransportTimeout, match=r"^tape ends$"):
        read(reader)
    tape.data += ack(8, 3)[10:]
    assert read(reader).header.sequence == 3


def test_echoed_requests_are_invalid():
    reader, _ = reader_of(8, build_frame(64, 0x01, 2, 0, 16, bytes(16)), ack(8, 3))
    with pytest.raises(BadAnswer, match=r"^answer starts with no valid header$"):
        read(reader)
    assert read(reader).header.sequence == 3


def test_header_with_an_impossible_length_is_invalid():
    reader, _ = reader_of(8, build_frame(8, 0x82, 2, 0, 0, bytes(5 * 64 * 8 + 1)), ack(8, 3))
    with pytest.raises(BadAnswer, match=r"^answer starts with no valid header$"):
        read(reader)
    assert read(reader).header.sequence == 3


def test_hunt_is_bounded():
    reader, tape = reader_of(8, bytes(HUNT_LIMIT + 1000), ack(8, 3), known=False)
    with pytest.raises(BadAnswer, match=r"^no answer in 655\d\d bytes$"):
        read(reader)
    assert HUNT_LIMIT < HUNT_LIMIT + 1000 + len(ack(8, 3)) - len(tape.data) < HUNT_LIMIT + 100


@pytest.mark.parametrize("opcode", [0x80, 0xff])
def test_first_response_with_an_impossible_length_is_invalid(opcode):
    long = build_frame(8, opcode, 1, 8, 0, bytes(5 * 64 * 8 + 1))
    reader, _ = reader_of(8, long, info(8, 2), known=False)
    assert read(reader).header.sequence == 2
