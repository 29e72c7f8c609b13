from itertools import product

import numpy as np
import pytest

from tritstream.golden.fixed_point import TRITS_PER_BYTE
from tritstream.golden.trit import decode, encode, is_canonical, to_digit, to_trit

# Worked out from the trit block of the Khronos Data Format Specification: digits D0..D4.
EXAMPLES = {
    0x00: (0, 0, 0, 0, 0),
    0x01: (1, 0, 0, 0, 0),
    0x02: (2, 0, 0, 0, 0),
    0x04: (0, 1, 0, 0, 0),
    0x08: (0, 2, 0, 0, 0),
    0x10: (0, 0, 1, 0, 0),
    0x03: (0, 0, 2, 0, 0),
    0x20: (0, 0, 0, 1, 0),
    0x40: (0, 0, 0, 2, 0),
    0x80: (0, 0, 0, 0, 1),
    0x60: (0, 0, 0, 0, 2),
    0xe7: (1, 0, 2, 1, 2),
    0x2b: (2, 0, 2, 1, 0),
    0x7e: (2, 2, 2, 2, 2),
}
# Same digits as a smaller byte. C[1:0] = 3 with C[3] = 1 ignores C[2], that is bit 2 of a byte
# (01x11 in its low five bits), or bit 5 where T[4:2] = 7; there C[3:2] = 3 ignores bit 7.
SECOND_CODES = {
    0x0f: 0x0b, 0x2f: 0x2b, 0x4f: 0x4b, 0x6f: 0x6b, 0x8f: 0x8b, 0xaf: 0xab, 0xcf: 0xcb,
    0xef: 0xeb, 0x7f: 0x5f, 0xff: 0xdf, 0xfc: 0x7c, 0xfd: 0x7d, 0xfe: 0x7e,
}
TUPLES = np.array(list(product(range(3), repeat=5)), np.uint8)


def bits(value, high, low):
    return value >> low & (1 << high - low + 1) - 1


def digits_of(t):
    """D0..D4 of a byte, formula by formula."""
    if bits(t, 4, 2) == 7:
        c, d3, d4 = bits(t, 7, 5) * 4 + bits(t, 1, 0), 2, 2
    elif bits(t, 6, 5) == 3:
        c, d3, d4 = bits(t, 4, 0), bits(t, 7, 7), 2
    else:
        c, d3, d4 = bits(t, 4, 0), bits(t, 6, 5), bits(t, 7, 7)
    if bits(c, 1, 0) == 3:
        d2, d1, d0 = 2, bits(c, 4, 4), 2 if bits(c, 3, 3) else bits(c, 2, 2)
    elif bits(c, 3, 2) == 3:
        d2, d1, d0 = 2, 2, bits(c, 1, 0)
    else:
        d2, d1, d0 = bits(c, 4, 4), bits(c, 3, 2), 2 if bits(c, 1, 1) else bits(c, 0, 0)
    return d0, d1, d2, d3, d4


def test_five_trits_a_byte():
    assert TRITS_PER_BYTE == 5


@pytest.mark.parametrize(("byte", "digits"), EXAMPLES.items())
def test_hand_written_bytes(byte, digits):
    assert tuple(decode(np.uint8(byte))) == digits
    assert encode(digits) == byte


def test_decode_of_every_byte():
    decoded = decode(np.arange(256, dtype=np.uint8))
    assert decoded.dtype == np.uint8
    for byte in range(256):
        assert tuple(decoded[byte]) == digits_of(byte), f"byte {byte:#04x}"


def test_every_tuple_round_trips():
    encoded = encode(TUPLES)
    assert encoded.dtype == np.uint8
    assert len(set(encoded.tolist())) == 243
    np.testing.assert_array_equal(decode(encoded), TUPLES)


def test_encode_takes_the_smaller_byte_of_a_tuple():
    smallest = {}
    for byte in range(256):
        smallest.setdefault(digits_of(byte), byte)
    for digits, byte in zip(TUPLES, encode(TUPLES), strict=True):
        assert byte == smallest[tuple(digits.tolist())], f"digits {digits}"


@pytest.mark.parametrize(("byte", "canonical"), SECOND_CODES.items())
def test_second_code_decodes_to_the_digits_of_the_first(byte, canonical):
    digits = decode(np.uint8(byte))
    np.testing.assert_array_equal(digits, decode(np.uint8(canonical)))
    assert encode(digits) == canonical


def test_thirteen_bytes_are_not_canonical():
    refused = np.flatnonzero(~is_canonical(np.arange(256, dtype=np.uint8)))
    assert refused.tolist() == sorted(SECOND_CODES)
    assert len(refused) == 13


def test_shapes_are_kept():
    packed = np.random.default_rng(0).integers(0, 256, (2, 48, 3), dtype=np.uint8)
    digits = decode(packed)
    assert digits.shape == (2, 48, 3, 5)
    assert encode(digits).shape == is_canonical(packed).shape == packed.shape
    np.testing.assert_array_equal(encode(digits) == packed, is_canonical(packed))
    assert decode(packed[:0]).shape == (0, 48, 3, 5)
    assert encode(digits[:0]).shape == (0, 48, 3)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_encode_of_any_integer(dtype):
    np.testing.assert_array_equal(encode(TUPLES.astype(dtype)), encode(TUPLES))


@pytest.mark.parametrize(("digits", "message"), [
    ([0, 1, 2, 3, 0], r"^digits must be 0\.\.2, not 0\.\.3$"),
    ([0, -1, 1, 0, 0], r"^digits must be 0\.\.2, not -1\.\.1$"),
    ([0, 0, 0, 0, 256], r"^digits must be 0\.\.2, not 0\.\.256$"),
    ([[2, 2, 2, 2, 2], [-3, 1, 1, 1, 7]], r"^digits must be 0\.\.2, not -3\.\.7$"),
])
def test_encode_wrong_digits(digits, message):
    with pytest.raises(ValueError, match=message):
        encode(np.array(digits))


def test_digits_are_balanced_trits():
    trits = to_trit(np.array([0, 1, 2], np.uint8))
    assert trits.dtype == np.int8
    assert trits.tolist() == [0, 1, -1]
    for dtype in (np.int8, np.int64):
        digits = to_digit(trits.astype(dtype))
        assert digits.dtype == np.uint8
        assert digits.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("digits", "message"), [
    ([0, 1, 2, 0], r"^digits must have shape \(\.\.\., 5\), not \(4,\)$"),
    (np.zeros((5, 6), int), r"^digits must have shape \(\.\.\., 5\), not \(5, 6\)$"),
    (0, r"^digits must have shape \(\.\.\., 5\), not \(\)$"),
])
def test_encode_wrong_shape(digits, message):
    with pytest.raises(ValueError, match=message):
        encode(digits)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32])
def test_wrong_dtype_of_bytes(dtype):
    message = rf"^packed trits must be uint8, not {np.dtype(dtype)}$"
    for action in (decode, is_canonical):
        with pytest.raises(TypeError, match=message):
            action(np.zeros(3, dtype))
