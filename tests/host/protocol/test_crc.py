"""CRCs of payloads that do not change."""

from zlib import crc32

import numpy as np
import pytest

from tritstream.host.protocol.crc import crc32_combine
from tritstream.host.protocol.frames import payload_crc, request


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
