"""Exact integer products with packed words, compiled to vector instructions of 16-bit lanes.

A word has up to ten trits of a row: the number ``v`` of the trits plus one, in base 3, highest
first, as a fraction of 16 bits, ``f = ceil(2^16 v / 3^10)``. The first ``c`` trits alone are the
number ``Q_c = (f * 3^c) >> 16``: the high half of a product, which one instruction computes for 32
words. A weight of ``n`` trits, plus half its range, is the difference ``Q_c - 3^n Q_(c-n)``. The
product is linear in the weights, so the loops multiply quotients by differences of activations,
which :func:`.prepare_job` computes once per vector. No single trit is ever taken out.

All values are kept modulo 2^16. A sum of 16 columns is exact, because three trits of a weight at
most are multiplied at a time: its magnitude is at most 16 * 13 * 128 = 26624, less than 2^15.

16 columns are a *unit*. The sums of the units of a longer group are added up in 32 bits, and are
multiplied by the mantissa of the group at its end, or after 16384 columns.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from tritstream.golden.kernels.numba_jit import OPTIONS, compiled_for_c

__all__ = ["FIELDS", "LANES", "PARTS", "PIECES", "SLOTS", "block_products"]

#: Rows of a block: the 16-bit lanes of two instructions of AVX-512, of four of AVX2. This constant
#: and the order of trits are here, because numba's cache notices changes of this file only.
LANES = 64
#: Trits of a weight, lowest first, that are multiplied at a time, by depth.
PARTS = {1: (1,), 2: (2,), 3: (3,), 4: (3, 1)}
#: Pieces of weights in the words of a unit, highest trits first, by trits per weight. A piece
#: ``(j, low, n)`` is trits ``low`` to ``low + n - 1`` of weight ``j``.
PIECES: dict[int, list[list[tuple[int, int, int]]]] = {
    1: [[(j, 0, 1) for j in range(first, first + 8)] for first in (0, 8)],
    2: [[(j, 0, 2) for j in range(first, first + 4)] for first in (0, 4, 8, 12)],
    3: [[*((j, 0, 3) for j in range(3 * word, 3 * word + 3)), *([(15, word, 1)] * (word < 3))]
        for word in range(5)]}
#: Factors of a unit and part: one per piece, zeros, and last the sum for weights of zero.
SLOTS = 32
#: Integers that describe a product to :func:`block_products`.
FIELDS = 12

#: Vectors for which the quotients of a unit are computed once.
_TOGETHER = 32
#: Units whose sums are added up in 32 bits: a magnitude of 1024 * 16 * 40 * 128 at most.
_UNITS = 1024
#: To compute the quotients again for a vector takes less time than to store them for so few.
_FEW = 2
_MOST_PIECES = max(sum(map(len, words)) for words in PIECES.values())
_HALF, _WORD, _LONG = (ir.IntType(bits) for bits in (16, 32, 64))
_ROWS, _WIDE_ROWS = (ir.VectorType(kind, LANES) for kind in (_HALF, _WORD))
_BYTES, _WORDS = (ir.VectorType(kind, 16) for kind in (ir.IntType(8), _WORD))


@cache
def block_products() -> Any:
    """Return a function of C that computes row sums of blocks that no other thread has taken yet.

    Its argument is the address of a job, int64 (FIELDS,): the next block, blocks, units, depth,
    vectors B, and the addresses of contiguous arrays: words uint16 (blocks, units, words, 64) as in
    :class:`.PackedWords`; scales of the C groups, (blocks, C, 64); factors uint16
    (units, parts, B, SLOTS); the mantissas' bytes, lowest first, uint8 (3, 32); and the row sums,
    int64 (blocks, B, 64), which are written. Then come the units per group, and the kind of scales:
    0 for codes of the mantissas, uint8, or 1 for mantissas of their own, uint16.
    """
    return compiled_for_c(_multiply_blocks, types.CPointer(types.int64))


def _multiply_blocks(address):
    job = carray(address, (FIELDS,))
    blocks, units, depth, count = job[1], job[2], job[3], job[4]
    length, direct = job[10], job[11]
    groups = (units + length - 1) // length
    parts, words = (2, 7) if depth == 4 else (1, (0, 2, 4, 5)[depth])
    numbers = carray(_pointer(job[5]), (blocks * units * words * LANES,), np.uint16)
    codes = carray(_pointer(job[6]), (blocks * groups * LANES,), np.uint8)
    own = carray(_pointer(job[6]), (blocks * groups * LANES,), np.uint16)
    factors = carray(_pointer(job[7]), (units * parts * count * SLOTS,), np.uint16)
    mantissas = carray(_pointer(job[8]), (3 * 32,), np.uint8)
    sums = carray(_pointer(job[9]), (blocks, count, LANES), np.int64)
    scales = np.empty(LANES, np.int32)
    places = np.ones((2, LANES), np.int32)
    places[1] = 27
    totals = np.empty((_TOGETHER, LANES), np.int32)
    products = np.empty(LANES, np.uint16)
    quotients = np.empty(_MOST_PIECES * LANES, np.uint16)
    while True:
        block = _take(job)
        if block >= blocks:
            return
        sums[block] = 0
        for start in range(0, count, _TOGETHER):
            some = sums[block, start:start + _TOGETHER]
            if length > 1 or direct:
                added = totals[:len(some)]
                added[:] = 0
                for unit in range(units):
                    at = (block * units + unit) * words * LANES
                    slot = (unit * parts * count + start) * SLOTS
                    if depth == 1:
                        _gather_1(numbers, at, factors, slot, places[0], quotients, products, added)
                    elif depth == 2:
                        _gather_2(numbers, at, factors, slot, places[0], quotients, products, added)
                    else:
                        _gather_3(numbers, at, factors, slot, places[0], quotients, products, added)
                    if depth == 4:
                        _gather_1(numbers, at + 5 * LANES, factors, slot + count * SLOTS,
                                  places[1], quotients, products, added)
                    if (unit + 1) % length and unit + 1 < units and (unit + 1) % _UNITS:
                        continue
                    first = (block * groups + unit // length) * LANES
                    if direct:
                        for lane in range(LANES):
                            scales[lane] = own[first + lane]
                    else:
                        _look_up(codes, first, mantissas, scales)
                    for vector in range(len(some)):
                        for lane in range(LANES):
                            some[vector, lane] += (np.int64(added[vector, lane])
                                                   * np.int64(scales[lane]))
                    added[:] = 0
                continue
            for group in range(groups):
                _look_up(codes, (block * groups + group) * LANES, mantissas, scales)
                at = (block * groups + group) * words * LANES
                slot = (group * parts * count + start) * SLOTS
                if depth == 1:
                    _add_1(numbers, at, factors, slot, scales, quotients, products, some)
                elif depth == 2:
                    _add_2(numbers, at, factors, slot, scales, quotients, products, some)
                else:
                    _add_3(numbers, at, factors, slot, scales, quotients, products, some)
                if depth == 4:
                    for lane in range(LANES):
                        scales[lane] *= 27
                    _add_1(numbers, at + 5 * LANES, factors, slot + count * SLOTS, scales,
                           quotients, products, some)


@intrinsic
def _pointer(_, address):
    """Return an address, int64, as a pointer."""
    def code(_, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


@intrinsic
def _take(_, job):
    """Return the first number of a job, and increase it, as one operation for all threads."""
    def code(context, builder, signature, arguments):
        return builder.atomic_rmw("add", _at(context, builder, job, arguments[0]),
                                  ir.Constant(_LONG, 1), "monotonic")

    return types.int64(job), code


@intrinsic
def _look_up(_, codes, at, mantissas, scales):
    """Write the mantissas of 64 codes. Tables of 16 bytes fit an instruction that looks up bytes.
    """
    def code(context, builder, signature, arguments):
        codes, at, mantissas, scales = arguments
        first = _at(context, builder, signature.args[0], codes, at)
        tables = _at(context, builder, signature.args[2], mantissas)
        to = _at(context, builder, signature.args[3], scales)
        halves = [_load(builder, _moved(builder, tables, 16 * half), _BYTES) for half in range(6)]
        for lane in range(0, LANES, 16):
            found = _load(builder, _moved(builder, first, lane), _BYTES)
            is_high = builder.icmp_unsigned(">", found, ir.Constant(_BYTES, [15] * 16))
            index = builder.and_(found, ir.Constant(_BYTES, [15] * 16))
            total = ir.Constant(_WORDS, [0] * 16)
            for byte in range(3):
                low, high = (_bytes_at(builder, half, index)
                             for half in halves[2 * byte:2 * byte + 2])
                value = builder.zext(builder.select(is_high, high, low), _WORDS)
                place = builder.shl(value, ir.Constant(_WORDS, [8 * byte] * 16))
                total = builder.or_(total, place)
            _store(builder, total, _moved(builder, to, lane))
        return context.get_dummy_value()

    return types.void(codes, at, mantissas, scales), code


def _bytes_at(builder: Any, table: Any, index: Any) -> Any:
    """Return the bytes of a table of 16 at 16 indices: a form that LLVM knows as one instruction.
    """
    found = ir.Constant(_BYTES, ir.Undefined)
    for lane in range(16):
        place = builder.extract_element(index, ir.Constant(_WORD, lane))
        value = builder.extract_element(table, builder.zext(place, _WORD))
        found = builder.insert_element(found, value, ir.Constant(_WORD, lane))
    return found


def _adder(trits: int, kind: type) -> Callable:
    """Return a function that adds the products of a part of a unit to sums of a kind of integers.

    Its arguments: the words and the index of the unit's first, factors and the index of the first
    vector's first, scales int32 (64,), uint16 (pieces * 64,) and (64,) to work in, and sums
    (B, 64).
    """
    @intrinsic
    def weigh(_, numbers, at, factors, slot, products):
        """Write sums over a unit, from the words."""
        def code(context, builder, signature, arguments):
            numbers, at, factors, slot, products = arguments
            first = _at(context, builder, signature.args[0], numbers, at)
            total = _weighed(builder, _quotients(builder, trits, first),
                             _at(context, builder, signature.args[2], factors, slot))
            _store(builder, total, _at(context, builder, signature.args[4], products))
            return context.get_dummy_value()

        return types.void(numbers, at, factors, slot, products), code

    @intrinsic
    def store(_, numbers, at, quotients):
        """Write the quotients of a unit."""
        def code(context, builder, signature, arguments):
            numbers, at, quotients = arguments
            first = _at(context, builder, signature.args[0], numbers, at)
            to = _at(context, builder, signature.args[2], quotients)
            for piece, value in enumerate(_quotients(builder, trits, first)):
                _store(builder, value, _moved(builder, to, piece * LANES))
            return context.get_dummy_value()

        return types.void(numbers, at, quotients), code

    @intrinsic
    def weigh_stored(_, quotients, factors, slot, products):
        """Write the same sums as ``weigh``, from quotients."""
        def code(context, builder, signature, arguments):
            quotients, factors, slot, products = arguments
            first = _at(context, builder, signature.args[0], quotients)
            values = (_load(builder, _moved(builder, first, piece * LANES))
                      for piece in range(sum(map(len, PIECES[trits]))))
            total = _weighed(builder, values,
                             _at(context, builder, signature.args[1], factors, slot))
            _store(builder, total, _at(context, builder, signature.args[3], products))
            return context.get_dummy_value()

        return types.void(quotients, factors, slot, products), code

    def add(numbers, at, factors, slot, scales, quotients, products, sums):
        if len(sums) > _FEW:
            store(numbers, at, quotients)
        for vector in range(len(sums)):
            if len(sums) > _FEW:
                weigh_stored(quotients, factors, slot + vector * SLOTS, products)
            else:
                weigh(numbers, at, factors, slot + vector * SLOTS, products)
            total = sums[vector]
            for lane in range(LANES):
                total[lane] += kind(np.int16(products[lane])) * kind(scales[lane])

    return njit(add, nogil=True, forceinline=True, **OPTIONS)


def _quotients(builder: Any, trits: int, first: Any) -> Any:
    """Yield the quotients of a unit, vectors of 64, from its words."""
    for word, pieces in enumerate(PIECES[trits]):
        number = builder.zext(_load(builder, _moved(builder, first, word * LANES)), _WIDE_ROWS)
        cut = 0
        for _, _, count in pieces:
            cut += count
            product = builder.mul(number, ir.Constant(_WIDE_ROWS, [3 ** cut] * LANES))
            high = builder.lshr(product, ir.Constant(_WIDE_ROWS, [16] * LANES))
            yield builder.trunc(high, _ROWS)


def _weighed(builder: Any, quotients: Any, factors: Any) -> Any:
    """Return the sum of quotients times factors, and of the last factor."""
    total = _splat(builder, factors, SLOTS - 1)
    for slot, quotient in enumerate(quotients):
        total = builder.add(total, builder.mul(quotient, _splat(builder, factors, slot)))
    return total


def _at(context: Any, builder: Any, kind: Any, array: Any, index: Any = None) -> Any:
    """Return a pointer to an item of an array."""
    data = context.make_array(kind)(context, builder, array).data
    return data if index is None else builder.gep(data, [index])


def _moved(builder: Any, pointer: Any, count: int) -> Any:
    return builder.gep(pointer, [ir.Constant(_LONG, count)])


def _load(builder: Any, pointer: Any, kind: Any = _ROWS) -> Any:
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=1)


def _splat(builder: Any, factors: Any, slot: int) -> Any:
    """Return a vector with a factor in all lanes."""
    none = ir.Constant(_ROWS, ir.Undefined)
    one = builder.insert_element(none, builder.load(_moved(builder, factors, slot)),
                                 ir.Constant(_WORD, 0))
    return builder.shuffle_vector(one, none, ir.Constant(_WIDE_ROWS, [0] * LANES))


_add_1, _add_2, _add_3 = (_adder(trits, np.int64) for trits in (1, 2, 3))
_gather_1, _gather_2, _gather_3 = (_adder(trits, np.int32) for trits in (1, 2, 3))
