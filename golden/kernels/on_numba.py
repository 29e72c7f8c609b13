"""The engine ``numba``: the same loops, compiled."""

from golden.kernels.fast import (
    CHUNK,
    best_codes,
    choose_scales,
    count_levels,
    find_codes,
    find_levels,
    pack_tiles,
    square_sums,
)
from golden.kernels.fast_search import feed_back, grid_errors

__all__ = [
    "CHUNK", "best_codes", "choose_scales", "count_levels", "feed_back", "find_codes",
    "find_levels", "grid_errors", "pack_tiles", "square_sums",
]
