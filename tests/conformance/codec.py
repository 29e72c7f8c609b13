"""Trits, tiles, words and products, as docs/packed-format.md has them."""

import re
from fractions import Fraction

from conformance.floats import BF16, F16, F32, F64, from_bits, rounded, to_bits

__all__ = ["DIGITS", "TRIT", "activations", "canonical", "export", "grouped_export",
           "grouped_mantissas", "grouped_products", "grouped_words", "mantissas", "results",
           "row_sums", "unpack", "unpack_grouped", "word_stream"]

TRIT = (0, 1, -1)
_TYPES = {"F16": F16, "BF16": BF16, "F32": F32, "float16": F16, "bfloat16": BF16,
          "float32": F32}


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
    """Return whether a writer may write a byte: no smaller byte has the same digits."""
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


def unpack_grouped(matrix):
    """Integers (N, K) of a matrix of version 5, and the scales of its groups, (N, C)."""
    rows, columns = matrix.shape
    width, depth = -(-columns // 16) * 16 * matrix.depth, matrix.depth
    q = [[sum(TRIT[DIGITS[matrix.trits[row // 5 * width + j * depth + i]][row % 5]] * 3 ** i
              for i in range(depth)) for j in range(columns)] for row in range(rows)]
    count = -(-columns // matrix.group)
    if matrix.kind == "coded":
        table = [from_bits(bits, F32) for bits in matrix.scales[0]]
        codes = [[sum(DIGITS[matrix.codes[(row // 5 * count + g) * 3 + i]][row % 5] * 3 ** i
                      for i in range(3)) for g in range(count)] for row in range(rows)]
        return q, [[table[code] for code in row] for row in codes]
    own = [[from_bits(bits, _TYPES[matrix.stored]) for bits in row] for row in matrix.scales]
    if matrix.kind == "inverse":
        own = [[rounded(1 / Fraction(scale), F32) for scale in row] for row in own]
    return q, own * (rows // len(own))


def grouped_mantissas(matrix, scales):
    """Mantissas (N, C), and the value of 1 in a mantissa of each row."""
    if matrix.kind == "coded":
        largest = max(from_bits(bits, F32) for bits in matrix.scales[0])
        unit = rounded(Fraction(largest) / 131071, F64)
        return [[round(rounded(rounded(scale / largest, F64) * 131071, F64)) for scale in row]
                for row in scales], [unit] * len(scales)
    if len(scales[0]) == 1:
        return [[1]] * len(scales), [row[0] for row in scales]
    found = [_direct_mantissas(row) for row in scales]
    return [row for row, _ in found], [Fraction(2) ** e for _, e in found]


def _direct_mantissas(scales):
    largest = Fraction(max(scales))
    if not largest:
        return [0] * len(scales), 0
    e = 0
    while largest >= Fraction(2) ** (e + 1):
        e += 1
    while largest < Fraction(2) ** e:
        e -= 1
    e -= 15
    while max(found := [round(scale / Fraction(2) ** e) for scale in scales]) > 65535:
        e += 1
    return found, e


def grouped_products(matrix, q, mantissas, units, x, x_scale):
    """Exact sums of rows, and bit patterns of the results in float32."""
    sums = [sum(m * sum(a * b for a, b in zip(row[first:first + matrix.group],
                                              x[first:first + matrix.group], strict=True))
                for m, first in zip(own, range(0, len(row), matrix.group), strict=True))
            for row, own in zip(q, mantissas, strict=True)]
    half, found = (3 ** matrix.depth - 1) // 2, []
    for total, unit in zip(sums, units, strict=True):
        c = rounded(rounded(Fraction(unit) / half, F64) * from_bits(x_scale, F64), F64)
        found.append(to_bits(rounded(rounded(rounded(total, F64) * c, F64), F32), F32))
    return sums, found


def grouped_export(matrix, q, scales):
    """Bit patterns of the weights in the matrix's dtype."""
    half = (3 ** matrix.depth - 1) // 2
    return [[to_bits(rounded(_weight(matrix.form, own[j // matrix.group], level, half),
                             _TYPES[matrix.dtype]), _TYPES[matrix.dtype])
             for j, level in enumerate(row)] for row, own in zip(q, scales, strict=True)]


def grouped_words(matrix, mantissas, columns, lanes):
    """Bytes for a device with so many lanes, in device groups of so many columns."""
    (rows, width), depth, stream = matrix.shape, matrix.depth, bytearray()
    width = -(-width // 16) * 16
    tiles, count = -(-rows // 5), -(-matrix.shape[1] // matrix.group)
    for block in range(-(-tiles // lanes)):
        held = range(block * lanes, (block + 1) * lanes)
        for first in range(0, width, columns):
            for at in range(first * depth, min(first + columns, width) * depth):
                stream += bytes(matrix.trits[tile * width * depth + at] if tile < tiles else 0
                                for tile in held)
            group = first // matrix.group
            if matrix.kind == "coded":
                for i in range(3):
                    stream += bytes(matrix.codes[(tile * count + group) * 3 + i] if tile < tiles
                                    else 0 for tile in held)
            elif count == 1:
                stream += bytes(3 * lanes)
            else:
                by_row = [[mantissas[5 * tile + r][group] if 5 * tile + r < rows else 0
                           for r in range(5)] for tile in held]
                stream += _direct_words(by_row, lanes)
    return bytes(stream)


def _direct_words(mantissas, lanes):
    """Ten words with the mantissas of five rows of each lane."""
    width = max(1, lanes // 8)
    words = [bytearray(lanes) for _ in range(10)]
    runs = [range(low, low + width) for low in range(0, lanes, width)]
    for place in range(width):
        for first in range(0, len(runs), 3):
            shared = runs[first:first + 3]
            a = [lane for run in shared for lane in run if 5 * lane % width == place]
            for r in range(5):
                m = [mantissas[lane][r] for run in shared for lane in run
                     if (5 * lane + r) % width == place]
                even, odd = words[2 * r], words[2 * r + 1]
                if len(a) == 1:
                    even[a[0]], odd[a[0]] = m[0] % 256, m[0] // 256
                    continue
                even[a[0]], even[a[1]] = m[0] % 256, m[0] // 256
                odd[a[0]], odd[a[1]] = m[1] % 256, m[1] // 256
                if len(a) == 3:
                    even[a[2]], odd[a[2]] = m[2] % 256, m[2] // 256
    return b"".join(words)


def _weight(form, s, q, h):
    if "sum" in form:
        return _sum_of_digits(*re.fullmatch(r"(.*) (\w+ \w+|unrounded) in (\w+)", form).groups(),
                              s, q, h)
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


def _sum_of_digits(rule, how, name, s, q, h):
    def single(value):
        return rounded(value, F32)

    def r(value):
        return rounded(single(value), _TYPES[name])

    digits = _balanced(q, h)
    powers = [3 ** i for i in range(len(digits))]
    planes = _planes(rule, powers, Fraction(s), h, single, r)
    terms = [digit * plane for digit, plane in zip(digits, planes, strict=True)]
    total = terms.pop(-1 if how == "high first" else 0)
    for term in reversed(terms) if how == "high first" else terms:
        total = r(total + term) if how.endswith("first") else single(total + term)
    total = r(total) if how == "at once" else total
    if rule.startswith("("):
        return r(total / h)
    if rule.startswith("s*"):
        return r(s * total)
    return r(single(single(s * powers[-1]) / h) * total) if rule.startswith("z*") else total


def _balanced(q, h):
    """Digits -1, 0, 1 of an integer within -h..h, the lowest first."""
    digits = []
    while h:
        digit = (q + 1) % 3 - 1
        digits.append(digit)
        q, h = (q - digit) // 3, h // 3
    return digits


def _planes(rule, powers, s, h, single, r):
    """Return the values of the digits +1, the lowest first."""
    m = powers[-1]
    z = single(single(s * m) / h)
    if rule == "sum t*R(3*P)":
        planes = [r(s / h)]
        while len(planes) < len(powers):
            planes.append(r(planes[-1] * 3))
        return planes
    if rule == "sum t*R(P/3)":
        planes = [r(z)]
        while len(planes) < len(powers):
            planes.insert(0, r(planes[0] / 3))
        return planes
    return [{
        "sum t*R(s*p/h)": lambda p: r(single(s * p) / h),
        "sum t*R(R(s*p)/h)": lambda p: r(r(s * p) / h),
        "sum t*R(s*R(p/h))": lambda p: r(s * r(Fraction(p, h))),
        "sum t*R(R(s/h)*p)": lambda p: r(r(s / h) * p),
        "sum t*R(z*R(p/m))": lambda p: r(z * r(Fraction(p, m))),
        "(sum t*R(s*p))/h": lambda p: r(s * p),
        "s*(sum t*R(p/h))": lambda p: r(Fraction(p, h)),
        "z*(sum t*R(p/m))": lambda p: r(Fraction(p, m)),
    }[rule](p) for p in powers]
