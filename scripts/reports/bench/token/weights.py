"""Random matrices in packed form, made by rule and seed as fast as a device reads them.

A matrix consists of units of five rows by 16 columns. Each unit is drawn from 65536 units of a
*sample* that is quantized once. So its bytes have the distribution of the bytes of quantized
weights, and no weight is computed as a number.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.fixed_point import GROUP, ROWS, group_count, row_tiles
from tritstream.golden.packed_matrix import PackedMatrix, StoredMatrix
from tritstream.golden.quantize import quantize
from tritstream.golden.scales import CodedScales, DirectScales
from tritstream.golden.tiles import pack, unpack
from tritstream.host.layout.shapes import WeightForm

__all__ = ["random_matrix"]

#: Row tiles and groups of the sample.
_TILES = 256, 256
#: Shares of -1, 0 and +1 in the weights of Bonsai 27B (all groups of the released model), and its
#: scales in one matrix: least, median, largest.
_SHARES = 0.3365, 0.3277, 0.3358
_SCALES = 0.00727, 0.01111, 0.02904
#: Standard deviation of the logarithm of a scale.
_SPREAD = 0.2


def random_matrix(name: str, shape: tuple[int, int], form: WeightForm, seed: int) -> StoredMatrix:
    """Return a matrix (N, K) whose bytes depend only on the arguments."""
    random = np.random.Generator(np.random.SFC64([seed, *name.encode()]))
    depth, (units, table) = form.depth, _sample(form.depth, form.direct)
    draws = random.integers(0, len(units), (row_tiles(shape[0]), group_count(shape[1])), np.uint16)
    tiles = units.take(draws, axis=0)
    _clear_padding(tiles, table, depth, shape)
    if not form.direct and form.group == GROUP:
        return tiles, table, depth, shape
    trits = tiles[..., :GROUP * depth].reshape(len(tiles), -1)
    group = form.group_of(shape[1])
    return PackedMatrix(depth, shape, trits, _scales(random, form, shape, table), group)


def _clear_padding(
    tiles: np.ndarray, table: np.ndarray, depth: int, shape: tuple[int, int],
) -> None:
    """Make the weights zero that are beyond the shape. A byte of zeros is 0."""
    rows, columns = shape
    kept = columns - GROUP * (tiles.shape[1] - 1)
    tiles[:, -1, kept * depth:GROUP * depth] = 0
    left = rows - ROWS * (len(tiles) - 1)
    tiles[-1:] = pack(unpack(tiles[-1:], depth, (left, columns), table))


def _scales(
    random: np.random.Generator, form: WeightForm, shape: tuple[int, int], table: np.ndarray,
) -> CodedScales | DirectScales:
    groups = group_count(shape[1], form.group_of(shape[1]))
    if not form.direct:
        return CodedScales(random.integers(0, len(table), (shape[0], groups), np.uint8), table)
    least, median, largest = _SCALES
    size = (1, 1) if form.group is None else (shape[0], groups)
    drawn = median * np.exp(_SPREAD * random.standard_normal(size, np.float32))
    return DirectScales(drawn.clip(least, largest).astype(np.float16), shape[0])


@cache
def _sample(depth: int, direct: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return units, uint8 (65536, 16d + 3), and their scale table.

    With direct scales, weights of one trit have the shares of a trained ternary model.
    """
    shape = ROWS * _TILES[0], GROUP * _TILES[1]
    matrix = quantize(GeneratedTensor("sample", "F32", shape, seed=0).read(), depth, engine=None)
    if direct and depth == 1:
        random = np.random.Generator(np.random.SFC64(0))
        matrix = replace(matrix, q=random.choice(np.array([-1, 0, 1], np.int8), shape, p=_SHARES))
    return pack(matrix, engine=None).reshape(_TILES[0] * _TILES[1], -1), matrix.table
