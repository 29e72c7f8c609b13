"""Five trits in a byte: the trit block of ASTC, as in the Khronos Data Format Specification."""

import numpy as np

from tritstream.golden.fixed_point import TRITS_PER_BYTE

__all__ = ["BYTE_OF_NUMBER", "decode", "encode", "is_canonical", "to_digit", "to_trit"]


def _decode_byte(t: int) -> tuple[int, int, int, int, int]:
    """Return digits 0..2 of a byte, D0 first, by the bit fields of the specification."""
    if t >> 2 & 7 == 7:
        c, d3, d4 = t >> 5 << 2 | t & 3, 2, 2
    elif t >> 5 & 3 == 3:
        c, d3, d4 = t & 31, t >> 7, 2
    else:
        c, d3, d4 = t & 31, t >> 5 & 3, t >> 7
    if c & 3 == 3:
        low = (_two_bits(c >> 2 & 3), c >> 4, 2)
    elif c >> 2 & 3 == 3:
        low = (c & 3, 2, 2)
    else:
        low = (_two_bits(c & 3), c >> 2 & 3, c >> 4)
    return *low, d3, d4


def _two_bits(bits: int) -> int:
    """Return {b1, b0 & ~b1}, which makes 3 a second code of digit 2."""
    return bits & 2 | bits & 1 & ~(bits >> 1)


_PLACE_VALUES = 3 ** np.arange(TRITS_PER_BYTE)
_TRIT_OF_DIGIT = np.array([0, 1, -1], np.int8)
_DIGITS = np.array([_decode_byte(t) for t in range(256)], np.uint8)      # (byte, digit)
_NUMBERS = _DIGITS @ _PLACE_VALUES                                       # base 3, by byte

#: Byte for each base-3 number 0..242 of five digits, D0 lowest. Where 2 bytes or more decode to
#: the same digits, the smallest byte: bytes are written from the largest to the smallest.
BYTE_OF_NUMBER = np.empty(3 ** TRITS_PER_BYTE, np.uint8)
BYTE_OF_NUMBER[_NUMBERS[::-1]] = np.arange(256, dtype=np.uint8)[::-1]
_CANONICAL = BYTE_OF_NUMBER[_NUMBERS] == np.arange(256)


def decode(packed: np.ndarray) -> np.ndarray:
    """Return digits 0..2 of packed bytes, D0 first: uint8 (...) to uint8 (..., 5).

    Every byte decodes. 13 bytes give the same digits as a smaller byte.
    """
    return _DIGITS[_bytes(packed)]


def encode(digits: np.ndarray) -> np.ndarray:
    """Return the bytes for digits 0..2, D0 first: integers (..., 5) to uint8 (...).

    When two bytes have the same digits, the smaller byte is returned. Raises :class:`ValueError`
    for another shape or digit.
    """
    digits = np.asarray(digits)
    if digits.ndim == 0 or digits.shape[-1] != TRITS_PER_BYTE:
        raise ValueError(f"digits must have shape (..., {TRITS_PER_BYTE}), not {digits.shape}")
    if digits.size and not 0 <= digits.min() <= digits.max() <= 2:
        raise ValueError(f"digits must be 0..2, not {digits.min()}..{digits.max()}")
    return BYTE_OF_NUMBER[digits.astype(np.uint8) @ _PLACE_VALUES.astype(np.uint8)]


def is_canonical(packed: np.ndarray) -> np.ndarray:
    """Return whether :func:`encode` would write these bytes: uint8 (...) to bool (...)."""
    return _CANONICAL[_bytes(packed)]


def to_digit(trits: np.ndarray) -> np.ndarray:
    """Return digits for balanced trits: 0, +1, -1 to uint8 0, 1, 2. Values are not validated."""
    return (np.asarray(trits, np.int8) % np.int8(3)).astype(np.uint8)


def to_trit(digits: np.ndarray) -> np.ndarray:
    """Return balanced trits for digits: 0, 1, 2 to int8 0, +1, -1."""
    return _TRIT_OF_DIGIT[np.asarray(digits)]


def _bytes(packed: np.ndarray) -> np.ndarray:
    packed = np.asarray(packed)
    if packed.dtype != np.uint8:
        raise TypeError(f"packed trits must be uint8, not {packed.dtype}")
    return packed
