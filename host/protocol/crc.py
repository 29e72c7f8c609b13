"""CRC-32 of concatenated bytes, computed from the CRC-32 of each part."""

from functools import lru_cache

__all__ = ["crc32_combine"]

#: Polynomial of zlib's CRC-32, lowest power in the highest bit.
_POLYNOMIAL = 0xEDB88320


def crc32_combine(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of ``A + B`` from that of A, that of B, and the bytes of B, ``length``.

    Like zlib's ``crc32_combine``, which Python does not offer: appended bytes multiply the CRC of A
    by ``x^(8 length)``. The first call for a length makes tables, so the next ones are fast.
    """
    byte0, byte1, byte2, byte3 = _tables(length)
    return (byte0[first & 0xFF] ^ byte1[first >> 8 & 0xFF] ^ byte2[first >> 16 & 0xFF]
            ^ byte3[first >> 24] ^ second)


@lru_cache(maxsize=256)
def _tables(length: int) -> list[list[int]]:
    """Return the products of each value of each byte, lowest first, and ``x^(8 length)``."""
    power, tables = _power(8 * length), []
    for shift in range(0, 32, 8):
        table = [0]
        for bit in range(shift, shift + 8):
            change = _multiply(1 << bit, power)
            table += [value ^ change for value in table]
        tables.append(table)
    return tables


def _power(exponent: int) -> int:
    """Return ``x^exponent`` modulo the polynomial."""
    result, square = 1 << 31, 1 << 30       # 1 and x
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        exponent >>= 1
    return result


def _multiply(a: int, b: int) -> int:
    product, bit = 0, 1 << 31
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product
