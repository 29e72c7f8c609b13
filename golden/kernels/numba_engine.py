"""The engine ``numba``: the loops of :mod:`tritstream.golden.kernels.numpy_engine`, compiled.

Weights are processed in blocks of groups, transposed to (16, n). A vector instruction then works
on one weight of several groups, and the sum of each group keeps its order.
"""

import numpy as np

from tritstream.golden.fixed_point import GROUP, SCALE_TRITS, SCALES, TRITS_PER_BYTE
from tritstream.golden.kernels.bitonic import upper_half
from tritstream.golden.kernels.numba_blocks import BLOCK, ONE, ROUND, ZERO, square_error, take_block
from tritstream.golden.kernels.numba_jit import compiled
from tritstream.golden.kernels.numba_search import feed_back, grid_errors, level_sums, own_errors
from tritstream.golden.trit import BYTE_OF_NUMBER

__all__ = [
    "CHUNK", "best_codes", "choose_scales", "count_levels", "feed_back", "find_codes",
    "find_levels", "grid_errors", "level_sums", "own_errors", "pack_tiles", "square_sums",
]

#: Larger chunks, because there are few temporaries and each call has a cost.
CHUNK = 4
_LOW, _BYTE, _TWO, _THREE = np.uint32(255), np.uint32(8), np.uint32(2), np.uint32(3)
_ANY = np.ones((1, GROUP), np.float32)


def choose_scales(groups, half):
    scales = np.empty(len(groups), np.float32)
    _choose_scales(groups, np.float32(half), scales)
    return scales


def find_codes(scales, edges):
    codes = np.empty(scales.shape, np.uint8)
    _find_codes(scales.reshape(-1), _rounded_down(edges), codes.reshape(-1))
    return codes


def find_levels(groups, scales, half):
    q = np.empty(groups.shape, np.int8)
    _find_levels(groups.reshape(-1), scales, np.float32(half), q.reshape(-1))
    return q


def best_codes(groups, table, half, importance=None):
    codes, errors = np.empty(len(groups), np.uint8), np.empty(len(groups), np.float32)
    importance = _ANY if importance is None else importance
    _best_codes(groups, table, np.float32(half), importance, codes, errors)
    return codes, errors


def square_sums(groups, q, codes, values):
    errors, squares = np.empty(len(groups)), np.empty(len(groups))
    _square_sums(groups, q, codes, values, errors, squares)
    return errors, squares


def count_levels(q, half):
    # Four sets of counters: consecutive additions to the same counter would stall.
    counts = np.zeros((4, 256), np.int64)
    _count_bytes(q.reshape(-1).view(np.uint8), counts)
    return counts.sum(axis=0).take(np.arange(-half, half + 1), mode="wrap")


def pack_tiles(q, codes, digits, code_digits, depth):
    shape = -(-len(q) // TRITS_PER_BYTE), codes.shape[1], GROUP * depth + SCALE_TRITS
    tiles = np.empty(shape, np.uint8)
    _pack_digits(q.view(np.uint8), digits, BYTE_OF_NUMBER, depth, tiles[..., :GROUP * depth])
    _pack_digits(codes, code_digits, BYTE_OF_NUMBER, SCALE_TRITS, tiles[..., GROUP * depth:])
    return tiles


def _rounded_down(edges: np.ndarray) -> np.ndarray:
    """Return the largest float32 not above each edge.

    A float32 scale is above this edge exactly when it is above the float64 edge.
    """
    edges = np.asarray(edges, np.float64)
    single = edges.astype(np.float32)
    return np.where(single > edges, np.nextafter(single, np.float32(-np.inf)), single)


@compiled
def _choose_scales(groups, half, chosen):
    magnitudes = np.zeros((GROUP, BLOCK), np.float32)
    candidates = np.zeros((4, BLOCK), np.float32)
    importance = np.ones((GROUP, BLOCK), np.float32)
    error, least = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    best = np.empty(BLOCK, np.float32)
    for first in range(0, len(groups), BLOCK):
        count = min(BLOCK, len(groups) - first)
        take_block(groups[first:first + count], magnitudes)
        _find_candidates(magnitudes, candidates)
        for number in range(4):
            scales = candidates[number]
            square_error(magnitudes, scales, importance, half, error)
            for g in range(BLOCK):
                better = number == 0 or error[g] < least[g]
                best[g] = scales[g] if better else best[g]
                least[g] = error[g] if better else least[g]
        chosen[first:first + count] = best[:count]


@compiled
def _best_codes(groups, table, half, importance, codes, errors):
    magnitudes = np.zeros((GROUP, BLOCK), np.float32)
    weights = np.ones((GROUP, BLOCK), np.float32)
    scales, best = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.uint8)
    error, least = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for first in range(0, len(groups), BLOCK):
        count = min(BLOCK, len(groups) - first)
        take_block(groups[first:first + count], magnitudes)
        for g in range(count):
            weights[:, g] = importance[(first + g) % len(importance)]
        for code in range(SCALES):
            scales[:] = table[code]
            square_error(magnitudes, scales, weights, half, error)
            for g in range(BLOCK):
                better = code == 0 or error[g] < least[g]
                best[g] = np.uint8(code) if better else best[g]
                least[g] = error[g] if better else least[g]
        codes[first:first + count] = best[:count]
        errors[first:first + count] = least[:count]


@compiled
def _find_candidates(magnitudes, candidates):
    """Write the magnitudes with index 10, 12, 14 and 15, ascending, of each group."""
    m = magnitudes
    for g in range(BLOCK):
        _, _, ten, _, twelve, _, fourteen, fifteen = upper_half(
            m[0, g], m[1, g], m[2, g], m[3, g], m[4, g], m[5, g], m[6, g], m[7, g],
            m[8, g], m[9, g], m[10, g], m[11, g], m[12, g], m[13, g], m[14, g], m[15, g])
        candidates[0, g], candidates[1, g] = ten, twelve
        candidates[2, g], candidates[3, g] = fourteen, fifteen


@compiled
def _find_codes(scales, edges, codes):
    counts = np.empty(BLOCK, np.int32)
    for first in range(0, len(scales), BLOCK):
        block = scales[first:first + BLOCK]
        counts[:] = 0
        for edge in edges:
            for g in range(len(block)):
                counts[g] += np.int32(edge < block[g])
        for g in range(len(block)):
            codes[first + g] = np.uint8(counts[g])


@compiled
def _find_levels(weights, scales, half, q):
    """Write integers of flat weights (16 n,); repeating the scales keeps the inner loop simple."""
    wide = np.empty(GROUP * BLOCK, np.float32)
    for first in range(0, len(scales), BLOCK):
        block = scales[first:first + BLOCK]
        for g in range(len(block)):
            wide[GROUP * g:GROUP * (g + 1)] = block[g]
        numbers = weights[GROUP * first:GROUP * (first + len(block))]
        levels = q[GROUP * first:GROUP * (first + len(block))]
        for k in range(len(numbers)):
            ratio = numbers[k] / wide[k]
            ratio = ratio if ratio < ONE else ONE
            ratio = ratio if ratio > -ONE else -ONE
            level = (ratio * half + ROUND) - ROUND
            levels[k] = np.int8(np.int32(level if wide[k] > ZERO else ZERO))


@compiled
def _square_sums(groups, q, codes, values, errors, squares):
    half = values.shape[1] // 2
    for g in range(len(groups)):
        error = square = 0.0
        row = values[codes[g]]
        for j in range(GROUP):
            weight = np.float64(groups[g, j])
            t = weight - np.float64(row[q[g, j] + half])
            error += t * t
            square += weight * weight
        errors[g], squares[g] = error, square


@compiled
def _count_bytes(data, counts):
    for start in range(0, len(data) - 3, 4):
        for k in range(4):
            counts[k, data[start + k]] += 1
    for start in range(len(data) & ~3, len(data)):
        counts[0, data[start]] += 1


@compiled
def _pack_digits(integers, digits, bytes_, count, packed):
    """Pack a digit of five rows per byte: (rows, n) to (tiles, groups, n / groups * count)."""
    tiles, groups, size = packed.shape
    numbers = np.empty(integers.shape[1], np.uint32)
    for tile in range(tiles):
        rows = integers[TRITS_PER_BYTE * tile:TRITS_PER_BYTE * (tile + 1)]
        numbers[:] = np.uint32(0)
        for row in rows[::-1]:
            for k in range(len(row)):
                numbers[k] = np.uint32(3) * numbers[k] + digits[row[k]]
        k = 0
        for group in range(groups):
            tile_bytes = packed[tile, group]
            for first in range(0, size, count):
                number = numbers[k]
                k += 1
                tile_bytes[first] = bytes_[number & _LOW]
                if count > 1:
                    tile_bytes[first + 1] = bytes_[number >> _BYTE & _LOW]
                if count > 2:
                    tile_bytes[first + 2] = bytes_[number >> _BYTE * _TWO & _LOW]
                if count > 3:
                    tile_bytes[first + 3] = bytes_[number >> _BYTE * _THREE]
