"""A table of what is recovered of larger matrices, made in many ways, and how fast.

    PYTHONPATH=tests python -m support.variants --shape 4864 896
"""

import argparse
import time

import numpy as np

from tritstream.golden.matrix import row_dequantizer
from tritstream.golden.recover import encode, recover
from tritstream.golden.rounding import FORMS as OURS
from tritstream.golden.rounding import float_bits
from tritstream.golden.tiles import pack, unpack

from support.published import DTYPES, FORMS, dequantize, draw_levels, draw_table, published

#: What differs from a matrix of depth 3, float16, in the codec's own way.
VARIANTS = {
    "own": {}, "one": {"depth": 1}, "two": {"depth": 2}, "four": {"depth": 4},
    "percentile ends": {"ends": "percentile"}, "capped end": {"ends": "capped"},
    "first digits kept": {"rederive": False}, "rows alike": {"spread": 0.0},
    "rows unlike": {"spread": 2.0},
    **{f"{form} in {inner}, stored {dtype}": {"form": form, "inner": inner, "dtype": dtype}
       for dtype in DTYPES for inner in DTYPES for form in FORMS},
    "four, s*(q/h) in float16": {"depth": 4, "form": "s*(q/h)", "inner": "float16"},
    "four, s/h*q in bfloat16": {"depth": 4, "form": "s/h*q", "inner": "bfloat16"},
    **{f"{how} levels": {"how": how} for how in (
        "uniform", "sparse", "multiples", "two", "largest", "single")},
    **{f"{kind} table": {"how": "gaussian", "seed": seed} for kind, seed in {
        "random": 12, "close": 4, "fractions": 0, "narrow": 11, "wide": 21, "few": 7}.items()},
}


def make(rng, shape, depth=3, how=None, seed=1, **rest):
    """Return a matrix of the codec, or one with other levels or another table."""
    if how is None:
        return published(rng, *shape, depth, **rest)
    _, levels = draw_levels(rng, (3 ** depth - 1) // 2, (shape[0], shape[1] // 16, 16), how)
    _, table = draw_table(np.random.default_rng(seed))
    codes = rng.integers(0, 27, (shape[0], shape[1] // 16))
    return dequantize(levels.reshape(shape), codes, table, depth).astype(np.float16)


def measure(weights):
    """Return the result, whether tiles give back all values, and weights per second."""
    start = time.perf_counter()
    found = recover(weights)
    matrix = encode(weights, np.array(found.table, np.float32), found.depth, OURS[found.form])
    tiles = pack(matrix)
    again = unpack(tiles, matrix.depth, matrix.shape, matrix.table, matrix.form)
    made = row_dequantizer(again, weights.dtype)(slice(None))
    different = np.count_nonzero(float_bits(made) != float_bits(weights))
    took = time.perf_counter() - start
    return found, different == found.negative_zeros and (made == weights).all(), weights.size / took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=2, default=(4864, 896))
    shape = tuple(parser.parse_args().shape)
    print(f"{'variant':42} d  {'dtype':8}  {'form':21} magnitudes scales tried exact  M weights/s")
    for name, how in VARIANTS.items():
        weights = make(np.random.default_rng(0), shape, **how)
        found, exact, rate = measure(weights)
        print(f"{name:42} {found.depth}  {weights.dtype.name:8}  {found.form:21} "
              f"{found.distinct:10} {found.scales:6} {len(found.attempts):5} {exact!s:5} "
              f"{rate / 1e6:12.1f}", flush=True)


if __name__ == "__main__":
    main()
