"""The upper half of 16 sorted numbers by Batcher's bitonic sort, without branches.

Compilers vectorize loops over this function and drop unused outputs.
"""

from tritstream.golden.kernels.numba_jit import inlined

__all__ = ["upper_half"]


@inlined
def upper_half(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p):
    """Return the 8 largest of 16 numbers, ascending. No number may be a NaN."""
    a, b, c, d, e, f, g, h = _sort(a, b, c, d, e, f, g, h)
    i, j, k, l, m, n, o, p = _sort(i, j, k, l, m, n, o, p)
    return _merge_bitonic(max(a, p), max(b, o), max(c, n), max(d, m),
                          max(e, l), max(f, k), max(g, j), max(h, i))


@inlined
def _sort(a, b, c, d, e, f, g, h):
    a, b, c, d = _sort_four(a, b, c, d)
    e, f, g, h = _sort_four(e, f, g, h)
    # Ascending, then descending: bitonic.
    return _merge_bitonic(a, b, c, d, h, g, f, e)


@inlined
def _sort_four(a, b, c, d):
    a, b = min(a, b), max(a, b)
    c, d = min(c, d), max(c, d)
    a, c = min(a, c), max(a, c)
    b, d = min(b, d), max(b, d)
    return a, min(b, c), max(b, c), d


@inlined
def _merge_bitonic(a, b, c, d, e, f, g, h):
    a, e = min(a, e), max(a, e)
    b, f = min(b, f), max(b, f)
    c, g = min(c, g), max(c, g)
    d, h = min(d, h), max(d, h)
    a, b, c, d = _merge_four(a, b, c, d)
    e, f, g, h = _merge_four(e, f, g, h)
    return a, b, c, d, e, f, g, h


@inlined
def _merge_four(a, b, c, d):
    a, c = min(a, c), max(a, c)
    b, d = min(b, d), max(b, d)
    return min(a, b), max(a, b), min(c, d), max(c, d)
