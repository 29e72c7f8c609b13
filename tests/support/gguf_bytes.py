"""GGUF files byte by byte, for types and values that the gguf library does not write."""

import struct

import numpy as np

__all__ = ["ARRAY", "FLOAT32", "STRING", "UINT32", "field", "info", "made", "packed_blocks", "text",
           "value"]

STRING, UINT32, FLOAT32, ARRAY = 8, 4, 6, 9


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def field(key, kind, data):
    return text(key) + struct.pack("<I", kind) + data


def value(key, found):
    """Field with a text, an integer or a float."""
    if isinstance(found, str):
        return field(key, STRING, text(found))
    if isinstance(found, int):
        return field(key, UINT32, struct.pack("<I", found))
    return field(key, FLOAT32, struct.pack("<f", found))


def info(name="a.weight", shape=(32,), kind=0, offset=0):
    return (text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
            + struct.pack("<IQ", kind, offset))


def made(fields=(), infos=(), data=b"", version=3, align=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(fields))
    head += b"".join(fields) + b"".join(infos)
    return head + bytes(-len(head) % align) + data


def packed_blocks(kind, levels, scales):
    """Bytes of a tensor of a published type, from its description, one weight at a time.

    ``levels`` (N, K) are -1, 0, 1 (for Q2_0 and PQ2_0 also 2), ``scales`` one number per block in
    reading order, or one number for I2_S.
    """
    if kind == "I2_S rows":
        return _four_rows(levels, scales)
    if kind.startswith("I2_S"):
        return _i2_s(levels.ravel().tolist(), scales, 64 if kind == "I2_S 64" else 128)
    size, encode = _BLOCKS[kind]
    blocks = levels.reshape(-1, size).tolist()
    return b"".join(encode(block, np.float16(scale).tobytes())
                    for block, scale in zip(blocks, scales, strict=True))


def _codes_of_two_bits(block):
    packed = bytearray(len(block) // 4)
    for place, level in enumerate(block):
        packed[place // 4] |= (level + 1) << 2 * (place % 4)
    return bytes(packed)


def _q2_0(block, scale):
    return scale + _codes_of_two_bits(block)


def _q1_0(block, scale):
    packed = bytearray(len(block) // 8)
    for place, level in enumerate(block):
        packed[place // 8] |= (level > 0) << place % 8
    return scale + bytes(packed)


def _ptq1_0(block, scale):
    digits = [[0] * 5 for _ in range(26)]
    for place, level in enumerate(block):
        if place < 80:
            byte, digit = place % 16, place // 16
        elif place < 120:
            byte, digit = 16 + (place - 80) % 8, (place - 80) // 8
        else:
            byte, digit = 24 + (place - 120) % 2, (place - 120) // 2
        digits[byte][digit] = level + 1
    values = [((((a * 3 + b) * 3 + c) * 3 + d) * 3 + e) for a, b, c, d, e in digits]
    return bytes(-(-value * 256 // 243) for value in values) + scale


def _i2_s(levels, scale, size=128):
    packed, quarter = bytearray(len(levels) // 4), size // 4
    for place, level in enumerate(levels):
        block, inner = divmod(place, size)
        packed[quarter * block + inner % quarter] |= (level + 1) << 6 - 2 * (inner // quarter)
    return bytes(packed) + np.float32(scale).tobytes() + bytes(28)


def _four_rows(levels, scale):
    packed = bytearray(levels.size // 4)
    for row, column in np.ndindex(levels.shape):
        level = int(levels[row, column])
        packed[row // 4 * levels.shape[1] + column] |= (level + 1) << 6 - 2 * (row % 4)
    return bytes(packed) + np.float32(scale).tobytes() + bytes(28)


_BLOCKS = {"Q2_0": (64, _q2_0), "Q2_0 of 128": (128, _q2_0), "PQ2_0": (128, _q2_0),
           "Q1_0": (128, _q1_0), "PTQ1_0": (128, _ptq1_0)}
