"""Trit blocks: five trits in a byte, as the ASTC integer sequence encoding has them.

Source: Khronos Data Format Specification, section on ASTC integer sequence encoding. A block
holds five base-3 digits; all 256 bytes decode, 13 of the 243 tuples have a second code.
"""

import numpy as np

__all__ = ["TRITS_PER_BYTE", "decode", "encode", "is_canonical", "to_digit", "to_trit"]

TRITS_PER_BYTE = 5

_POWERS = 3 ** np.arange(TRITS_PER_BYTE)


def _decode_block(block: int) -> list[int]:
    """Digits of one byte, the lowest first: the specification's procedure."""
    t = [block >> bit & 1 for bit in range(8)]
    if t[2] and t[3] and t[4]:
        c = [t[0], t[1], t[5], t[6], t[7]]
        d3 = d4 = 2
    else:
        c = t[:5]
        d4, d3 = (2, t[7]) if t[5] and t[6] else (t[7], t[5] + 2 * t[6])
    if c[0] and c[1]:
        return [2 * c[3] + (c[2] & ~c[3]), c[4], 2, d3, d4]
    if c[2] and c[3]:
        return [c[0] + 2 * c[1], 2, 2, d3, d4]
    return [2 * c[1] + (c[0] & ~c[1]), c[2] + 2 * c[3], c[4], d3, d4]


_DIGITS = np.array([_decode_block(block) for block in range(256)], np.uint8)
# Written from the top, so that the smaller byte of a tuple stays.
_BYTES = np.zeros(3**TRITS_PER_BYTE, np.uint8)
_BYTES[(_DIGITS[::-1] @ _POWERS)] = np.arange(255, -1, -1)
_CANONICAL = _BYTES[_DIGITS @ _POWERS] == np.arange(256)
_TRITS = np.array([0, 1, -1], np.int8)


def decode(packed: np.ndarray) -> np.ndarray:
    """Digits 0..2 (..., 5) uint8 of bytes (...), the lowest first."""
    return _DIGITS[packed]


def encode(digits: np.ndarray) -> np.ndarray:
    """Canonical bytes (...) uint8 of digits 0..2 (..., 5): the smaller of two codes.

    Raises
    ------
    ValueError
        A digit is not 0, 1 or 2.
    """
    digits = np.asarray(digits)
    if digits.size and (digits.min() < 0 or digits.max() > 2):
        raise ValueError(f"digits must be 0..2, not {digits.min()}..{digits.max()}")
    return _BYTES[digits.astype(np.uint8) @ _POWERS.astype(np.uint8)]


def is_canonical(packed: np.ndarray) -> np.ndarray:
    """Whether each byte is the smaller code of its digits."""
    return _CANONICAL[packed]


def to_trit(digits: np.ndarray) -> np.ndarray:
    """Balanced trits int8 of digits: 0 -> 0, 1 -> +1, 2 -> -1."""
    return _TRITS[digits]


def to_digit(trits: np.ndarray) -> np.ndarray:
    """Digits uint8 of balanced trits."""
    return (np.asarray(trits) % 3).astype(np.uint8)
