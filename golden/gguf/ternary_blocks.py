"""Blocks of ternary and binary weights, as levels and scales.

Each function takes blocks, uint8 (n, bytes), and returns their levels, int8 (n, weights), and their
scales, float16 (n,). A weight is the level times the scale, which is exact in float32.
"""

import numpy as np

__all__ = ["UNDEFINED", "i2_s", "ptq1_0", "q1_0", "q2_0", "tq1_0", "tq2_0"]

#: Level of :func:`i2_s` for the code that has no meaning.
UNDEFINED = 2

Blocks = tuple[np.ndarray, np.ndarray]

_PAIRS = np.arange(0, 8, 2, dtype=np.uint8)
#: Digits of a byte in base 3, as -1, 0, 1, the highest digit first: int8 (256, 5).
_DIGITS = (np.arange(256)[:, None] * 3 ** np.arange(5) % 256 * 3 // 256 - 1).astype(np.int8)


def q2_0(blocks: np.ndarray) -> Blocks:
    """Read Q2_0 and PQ2_0: the scale, then four codes per byte from the lowest bits up.

    Codes 0, 1, 2, 3 are the levels -1, 0, +1 and +2.
    """
    codes = blocks[:, 2:, None] >> _PAIRS & 3
    return codes.reshape(len(blocks), -1).astype(np.int8) - np.int8(1), _scales(blocks[:, :2])


def q1_0(blocks: np.ndarray) -> Blocks:
    """Read Q1_0: the scale, then eight weights per byte; bit 1 is +1, bit 0 is -1."""
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
    return 2 * bits.astype(np.int8) - np.int8(1), _scales(blocks[:, :2])


def ptq1_0(blocks: np.ndarray) -> Blocks:
    """Read PTQ1_0: 16 and 8 bytes of five digits, 2 bytes of four digits, the scale."""
    return _base_3(blocks[:, :26], (16, 8, 2)), _scales(blocks[:, 26:])


def tq1_0(blocks: np.ndarray) -> Blocks:
    """Read TQ1_0: 32 and 16 bytes of five digits, 4 bytes of four digits, the scale."""
    return _base_3(blocks[:, :52], (32, 16, 4)), _scales(blocks[:, 52:])


def tq2_0(blocks: np.ndarray) -> Blocks:
    """Read TQ2_0: two parts of 32 bytes, the scale.

    The lowest bits of the bytes are the first weights of a part.
    """
    codes = blocks[:, :64].reshape(-1, 2, 1, 32) >> _PAIRS[:, None] & 3
    return codes.reshape(len(blocks), -1).astype(np.int8) - np.int8(1), _scales(blocks[:, 64:])


def i2_s(blocks: np.ndarray) -> Blocks:
    """Read I2_S, whose tensor has a single scale elsewhere; the scales returned are 1.

    The highest bits of the bytes are the first weights of a block. Code 3 gives ``UNDEFINED``.
    """
    codes = blocks[:, None] >> _PAIRS[::-1, None] & 3
    return (codes.reshape(len(blocks), -1).astype(np.int8) - np.int8(1),
            np.ones(len(blocks), np.float16))


def _base_3(packed: np.ndarray, parts: tuple[int, int, int]) -> np.ndarray:
    """Return the levels of three parts of bytes, which hold five, five and four digits each.

    Weights take the first digit of all bytes of a part, then their second digit, and so on.
    """
    digits = _DIGITS[packed].swapaxes(1, 2)
    first, second, _ = np.cumsum(parts)
    each = [digits[:, :5, :first], digits[:, :5, first:second], digits[:, :4, second:]]
    return np.concatenate([part.reshape(len(packed), -1) for part in each], axis=1)


def _scales(halves: np.ndarray) -> np.ndarray:
    """Return scales stored as uint8 (n, 2): float16 (n,)."""
    return np.ascontiguousarray(halves).view("<f2")[:, 0]
