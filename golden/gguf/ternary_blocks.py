"""Blocks of ternary and binary weights that the package gguf does not dequantize.

Each function takes blocks, uint8 (n, bytes), and returns their weights, float32 (n, weights). The
product of a float16 scale and -1, 0, 1 or 2 is exact.
"""

import numpy as np

__all__ = ["UNDEFINED", "i2_s", "ptq1_0", "q1_0", "q2_0"]

#: Value of :func:`i2_s` for the code that has no meaning.
UNDEFINED = 2.0

_PAIRS = np.arange(0, 8, 2, dtype=np.uint8)
#: Digits of a byte in base 3, as -1, 0, 1, the highest digit first: int8 (256, 5).
_DIGITS = (np.arange(256)[:, None] * 3 ** np.arange(5) % 256 * 3 // 256 - 1).astype(np.int8)


def q2_0(blocks: np.ndarray) -> np.ndarray:
    """Dequantize Q2_0 and PQ2_0: the scale, then four codes per byte from the lowest bits up.

    Codes 0, 1, 2, 3 are -1, 0, +1 and +2 times the scale.
    """
    codes = blocks[:, 2:, None] >> _PAIRS & 3
    return (codes.reshape(len(blocks), -1).astype(np.float32) - 1) * _scales(blocks[:, :2])


def q1_0(blocks: np.ndarray) -> np.ndarray:
    """Dequantize Q1_0: the scale, then eight weights per byte; bit 1 is +1, bit 0 is -1."""
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
    return (2 * bits.astype(np.float32) - 1) * _scales(blocks[:, :2])


def ptq1_0(blocks: np.ndarray) -> np.ndarray:
    """Dequantize PTQ1_0: 16 and 8 bytes of five digits, 2 bytes of four digits, the scale.

    Weights take the first digit of all bytes of a part, then their second digit, and so on.
    """
    digits = _DIGITS[blocks[:, :26]].swapaxes(1, 2)
    parts = [digits[:, :5, :16], digits[:, :5, 16:24], digits[:, :4, 24:]]
    levels = np.concatenate([part.reshape(len(blocks), -1) for part in parts], axis=1)
    return levels.astype(np.float32) * _scales(blocks[:, 26:])


def i2_s(blocks: np.ndarray) -> np.ndarray:
    """Return -1, 0 or 1 for each weight of I2_S, without the scale of the tensor.

    The highest bits of the bytes are the first weights of a block. Code 3 gives ``UNDEFINED``.
    """
    codes = blocks[:, None] >> _PAIRS[::-1, None] & 3
    return codes.reshape(len(blocks), -1).astype(np.float32) - 1


def _scales(halves: np.ndarray) -> np.ndarray:
    """Return float16 scales, uint8 (n, 2), as float32 (n, 1)."""
    return np.ascontiguousarray(halves).view("<f2").astype(np.float32)
