"""Matrices a few rows at a time, so that temporaries stay small whatever the matrix."""

from collections.abc import Iterator

__all__ = ["row_chunks"]

#: Elements of a chunk: a temporary of float64 is then 2 MB, which second-level caches hold.
_ELEMENTS = 1 << 18


def row_chunks(rows: int, columns: int, multiple: int = 1) -> Iterator[slice]:
    """Slices that cover ``rows`` in order, each a multiple of ``multiple`` rows but the last."""
    step = max(1, _ELEMENTS // max(1, columns) // multiple) * multiple
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))
