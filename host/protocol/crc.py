"""CRC-32 of two runs of bytes together, from those of each."""

__all__ = ["crc32_combine"]

#: The polynomial of zlib's CRC-32, lowest power in the highest bit.
_POLYNOMIAL = 0xEDB88320


def crc32_combine(first: int, second: int, length: int) -> int:
    """CRC-32 of some bytes with ``length`` more behind them; ``second`` is that of those alone.

    zlib's ``crc32_combine``, which Python does not have: bytes behind multiply a CRC by
    ``x^(8 length)``.
    """
    return _multiply(first, _power(8 * length)) ^ second


def _power(exponent: int) -> int:
    """``x^exponent`` in the field of the CRC."""
    result, square = 1 << 31, 1 << 30       # 1 and x
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        exponent >>= 1
    return result


def _multiply(a: int, b: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product
