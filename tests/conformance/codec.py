"""Trits, tiles, words and products, as docs/packed-format.md has them."""

from fractions import Fraction

from conformance.floats import BF16, F16, F32, F64, from_bits, rounded, to_bits

__all__ = ["DIGITS", "TRIT", "activations", "canonical", "export", "mantissas", "results",
           "row_sums", "unpack", "word_stream"]

TRIT = (0, 1, -1)
_TYPES = {"F16": F16, "BF16": BF16, "F32": F32, "float16": F16, "bfloat16": BF16}


def _digits(t):
    """D0..D4 of a byte."""
    bit = [t >> n & 1 for n in range(8)]
    if bit[4:1:-1] == [1, 1, 1]:
        c, d3, d4 = [bit[0], bit[1], bit[5], bit[6], bit[7]], 2, 2
    elif bit[6] and bit[5]:
        c, d3, d4 = bit[:5], bit[7], 2
    else:
        c, d3, d4 = bit[:5], 2 * bit[6] + bit[5], bit[7]
    if c[1] and c[0]:
        d0, d1, d2 = 2 * c[3] + (c[2] & (1 - c[3])), c[4], 2
    elif c[3] and c[2]:
        d0, d1, d2 = 2 * c[1] + c[0], 2, 2
    else:
        d0, d1, d2 = 2 * c[1] + (c[0] & (1 - c[1])), 2 * c[3] + c[2], c[4]
    return d0, d1, d2, d3, d4


#: D0..D4 of every byte.
DIGITS = [_digits(t) for t in range(256)]


def canonical(byte):
    """Whether a writer may write a byte: no smaller one has its digits."""
    return DIGITS.index(DIGITS[byte]) == byte


def unpack(matrix):
    """Integers (N, K) and codes (N, ceil(K / 16)) of a matrix, as lists of rows."""
    rows, columns = matrix.shape
    groups, size = -(-columns // 16), 16 * matrix.depth + 3
    q = [[0] * 16 * groups for _ in range(rows)]
    codes = [[0] * groups for _ in range(rows)]
    for place in range(len(matrix.tiles) // size):
        tile = matrix.tiles[place * size:(place + 1) * size]
        first, group = place // groups * 5, place % groups
        for row in range(first, min(first + 5, rows)):
            digits = [DIGITS[byte][row - first] for byte in tile]
            for j in range(16):
                q[row][16 * group + j] = sum(
                    TRIT[digits[j * matrix.depth + i]] * 3 ** i for i in range(matrix.depth))
            codes[row][group] = sum(digits[16 * matrix.depth + i] * 3 ** i for i in range(3))
    return [row[:columns] for row in q], codes


def word_stream(matrix, lanes):
    """Bytes for a device with so many lanes."""
    rows, columns = matrix.shape
    tiles, groups, size = -(-rows // 5), -(-columns // 16), 16 * matrix.depth + 3
    stream = bytearray()
    for block in range(-(-tiles // lanes)):
        for group in range(groups):
            for n in range(size):
                for lane in range(lanes):
                    tile = block * lanes + lane
                    stream.append(matrix.tiles[(tile * groups + group) * size + n]
                                  if tile < tiles else 0)
    return bytes(stream)


def mantissas(table):
    """27 integers of the bit patterns of a table."""
    scales = [from_bits(bits, F32) for bits in table]
    return [round(rounded(rounded(scale / max(scales), F64) * 131071, F64)) for scale in scales]


def activations(floats):
    """int8 levels, and the bit pattern of their scale, of bit patterns in float64."""
    values = [from_bits(bits, F64) for bits in floats]
    scale = rounded(max(map(abs, values)) / 127, F64)
    levels = [max(-127, min(127, round(rounded(value / scale, F64)))) if scale else 0
              for value in values]
    return levels, to_bits(scale, F64)


def row_sums(q, codes, scales, x):
    """Exact sums of rows."""
    def group_sum(row, group):
        places = slice(16 * group, 16 * group + 16)
        return sum(a * b for a, b in zip(row[places], x[places], strict=True))

    return [sum(scales[code] * group_sum(row, group) for group, code in enumerate(row_codes))
            for row, row_codes in zip(q, codes, strict=True)]


def results(sums, table, depth, x_scale, bias=None):
    """Bit patterns of results in float32."""
    c = rounded(max(from_bits(bits, F32) for bits in table) / 131071, F64)
    c = rounded(c / ((3 ** depth - 1) // 2), F64)
    c = rounded(c * from_bits(x_scale, F64), F64)
    values = [rounded(rounded(rounded(total, F64) * c, F64), F32) for total in sums]
    if bias:
        values = [rounded(value + from_bits(bits, F32), F32)
                  for value, bits in zip(values, bias, strict=True)]
    return [to_bits(value, F32) for value in values]


def export(matrix, q, codes):
    """Bit patterns of a matrix's weights in its dtype."""
    half = (3 ** matrix.depth - 1) // 2
    scales = [from_bits(bits, F32) for bits in matrix.table]
    known = {}

    def weight(code, level):
        if (code, level) not in known:
            value = _weight(matrix.form, scales[code], level, half)
            known[code, level] = to_bits(rounded(value, _TYPES[matrix.dtype]),
                                         _TYPES[matrix.dtype])
        return known[code, level]

    return [[weight(row_codes[column // 16], level) for column, level in enumerate(row)]
            for row, row_codes in zip(q, codes, strict=True)]


def _weight(form, s, q, h):
    order, _, how = form.partition(" ")
    word, _, name = how.partition(" ")
    last = _TYPES.get(name, F32)
    step = last if word == "in" else F32

    def then(value, format):
        return rounded(rounded(value, F32), format)

    if order == "s*q/h":
        return then(then(s * q, step) / Fraction(h), last)
    if order == "s*(q/h)":
        return then(s * then(Fraction(q, h), step), last)
    return then(then(s / h, step) * q, last)
