"""Matrices a few rows at a time, so that temporaries stay small whatever the matrix."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_threads", "row_chunks", "run_in_threads"]

T, R = TypeVar("T"), TypeVar("R")

#: Elements of a chunk: a temporary of float64 is then 2 MB, which second-level caches hold.
_ELEMENTS = 1 << 18


def row_chunks(
    rows: int, columns: int, multiple: int = 1, times: int = 1,
) -> Iterator[slice]:
    """Slices that cover ``rows`` in order, each a multiple of ``multiple`` rows but the last.

    They are ``times`` as large as suits work that makes many temporaries.
    """
    step = max(1, times * _ELEMENTS // max(1, columns) // multiple) * multiple
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def in_threads(work: Callable[[T], R], chunks: Iterable[T]) -> Iterator[R]:
    """Results of ``work``, in the order of ``chunks``; numpy computes outside of the GIL.

    What has not begun when the caller stops asking is not done.
    """
    chunks = list(chunks)
    if len(chunks) == 1:
        yield work(chunks[0])
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, chunks)


def run_in_threads(work: Callable[[T], None], chunks: Iterable[T]) -> None:
    """The same of work that has no result."""
    for _ in in_threads(work, chunks):
        pass
