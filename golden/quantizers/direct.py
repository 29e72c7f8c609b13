"""Method ``search`` with direct scales: a float16 per group, with the least squared error.

The scale of a group is searched in two grids, as shares of its largest magnitude and then around
the best of them. With the integers that this scale gives, the scale with the least error is known
in closed form, and is tried next. A device multiplies by mantissas of 16 bits and an exponent per
row (:func:`.direct_mantissas`), so the better one of the two neighbours is taken that both float16
and these mantissas hold exactly.
"""

import numpy as np

from tritstream.golden.fixed_point import DIRECT_MANTISSA_BITS, GROUP, group_count, half_range
from tritstream.golden.groups import WeightRows, take_groups
from tritstream.golden.kernels import Kernels, load
from tritstream.golden.matrix import DirectMatrix
from tritstream.golden.quantizers.units import over_units, own_errors, per_unit
from tritstream.golden.row_chunks import row_chunks, run_in_threads
from tritstream.golden.scales import DirectScales

__all__ = ["exact_neighbours", "search_direct"]

#: Shares of the largest magnitude of a group that are tried first: the least of them by depth.
_LEAST, _MOST, _POINTS = {1: 0.06, 2: 0.15, 3: 0.25, 4: 0.35}, 1.1, 16
#: Bits of a float16 after its first, its exponent with subnormals, and its largest value.
_FRACTION, _SUBNORMAL, _LARGEST = 10, -14, float(np.finfo(np.float16).max)
#: Larger scales are refused in any case, and products with them may overflow.
_REFUSED = np.float32(1e30)


def search_direct(
    weights: WeightRows, depth: int, group: int, name: str = "matrix", *,
    engine: str | None = "numpy",
) -> DirectMatrix:
    """Encode a matrix (N, K) of any float dtype, with a float16 scale per ``group`` weights.

    A device has every scale exactly. All engines return identical bits. A group of zeros has scale
    0. Raises :class:`ValueError` for weights that are not finite, and for weights that need a scale
    beyond the range of float16.
    """
    half, kernels = half_range(depth), load(engine)
    rows, columns = weights.shape
    groups, width = group_count(columns, group), GROUP * group_count(columns)
    q, stored = np.empty((rows, width), np.int8), np.empty((rows, groups), np.float16)

    def work(chunk: slice) -> None:
        taken = take_groups(weights, chunk, name, group)
        wanted = _best_scales(taken, depth, kernels).reshape(-1, groups)
        pairs = exact_neighbours(wanted)
        _check_range(pairs, chunk.start, name)
        chosen = _choose(taken, pairs.reshape(-1, pairs.shape[-1]), half, kernels)
        stored[chunk] = chosen.reshape(-1, groups)
        levels = kernels.find_levels(taken.reshape(-1, GROUP), per_unit(chosen, group // GROUP),
                                     half)
        q[chunk] = levels.reshape(len(wanted), -1)[:, :width]

    run_in_threads(work, row_chunks(rows, group * groups, times=kernels.CHUNK))
    return DirectMatrix(int(depth), (rows, columns), q, DirectScales(stored, rows), group)


def exact_neighbours(scales: np.ndarray) -> np.ndarray:
    """Return the scales next to those of a row that a device has exactly: float32 (rows, C, 2).

    ``scales`` are float32 (rows, C). The neighbours are not above and not below a scale. They are
    multiples of the last place of float16 and of ``2^(e - 15)``, where ``2^e`` is the highest power
    of two in the row.
    """
    wide = scales.astype(np.float64)
    largest = _rounded(np.ceil, wide.max(axis=1), _last_place(wide.max(axis=1)))
    row = _exponent(largest) - DIRECT_MANTISSA_BITS + 1
    places = np.maximum(_last_place(wide), row[:, None])
    return np.stack([_rounded(how, wide, places) for how in (np.floor, np.ceil)],
                    axis=-1).astype(np.float32)


def _check_range(scales: np.ndarray, first: int, name: str) -> None:
    wrong = np.argwhere(scales > _LARGEST)
    if len(wrong):
        row = int(wrong[0][0])
        raise ValueError(f"{name} needs a scale of {scales[row].max():.3g} in row {first + row}, "
                         f"and float16 holds {_LARGEST:.0f} at most; use coded scales, or keep the "
                         "matrix unquantized")


def _best_scales(groups: np.ndarray, depth: int, kernels: Kernels) -> np.ndarray:
    """Return the scale with the least error that is found for each group: (n, G) to (n,)."""
    half = half_range(depth)
    shares = np.geomspace(_MOST, _LEAST[depth], _POINTS)
    largest = np.minimum(np.abs(groups).max(axis=1), _REFUSED)
    best = _choose(groups, largest[:, None] * shares.astype(np.float32), half, kernels)
    step = shares[0] / shares[1]
    around = np.append(1, np.geomspace(step, 1 / step, _POINTS + 2)[1:-1])
    best = _choose(groups, best[:, None] * around.astype(np.float32), half, kernels)
    return _choose(groups, np.stack([best, _refitted(groups, best, half, kernels)], axis=1), half,
                   kernels)


def _refitted(groups: np.ndarray, scales: np.ndarray, half: int, kernels: Kernels) -> np.ndarray:
    """Return the scales with the least error for the integers that the given scales make."""
    units = groups.shape[1] // GROUP
    sums = kernels.level_sums(groups.reshape(-1, GROUP), per_unit(scales, units), half)
    products, squares = (over_units(part, units) for part in sums)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        fitted = np.float32(half) * (products / squares)
    return np.where(squares > 0, np.minimum(fitted, _REFUSED), scales)


def _choose(
    groups: np.ndarray, candidates: np.ndarray, half: int, kernels: Kernels,
) -> np.ndarray:
    """Return the first candidate with the least error per group: (n, m) to (n,)."""
    best = own_errors(groups, candidates, half, kernels).argmin(axis=1)
    return np.take_along_axis(candidates, best[:, None], axis=1)[:, 0]


def _exponent(values: np.ndarray) -> np.ndarray:
    """Return ``floor(log2(value))``."""
    return np.frexp(values)[1] - 1


def _last_place(values: np.ndarray) -> np.ndarray:
    """Return the exponent of the last place of a float16."""
    return np.maximum(_exponent(values), _SUBNORMAL) - _FRACTION


def _rounded(how: np.ufunc, values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return values rounded to a multiple of ``2**place`` by :func:`numpy.floor` or ``ceil``."""
    return np.ldexp(how(np.ldexp(values, -places)), places)
