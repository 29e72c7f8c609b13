"""Chunks of matrix rows, so that temporaries stay small for a matrix of any size."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_threads", "row_chunks", "run_in_threads"]

T = TypeVar("T")
R = TypeVar("R")

#: Elements per chunk. A float64 temporary then takes 2 MB, which fits a second-level cache.
_ELEMENTS = 1 << 18


def row_chunks(
    rows: int, columns: int, multiple: int = 1, times: int = 1,
) -> Iterator[slice]:
    """Yield slices that cover ``rows`` in order.

    Each slice except the last has a multiple of ``multiple`` rows. The default size suits work with
    many temporaries; ``times`` multiplies it.
    """
    step = max(1, times * _ELEMENTS // max(1, columns) // multiple) * multiple
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def in_threads(work: Callable[[T], R], chunks: Iterable[T]) -> Generator[R, None, None]:
    """Yield the results of ``work`` on chunks, computed in threads, in the order of ``chunks``.

    numpy releases the GIL while it computes. Closing the generator cancels chunks that have not
    started.
    """
    chunks = list(chunks)
    if len(chunks) == 1:
        yield work(chunks[0])
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, chunks)


def run_in_threads(work: Callable[[T], None], chunks: Iterable[T]) -> None:
    """Run ``work`` on all chunks in threads, for work without a result."""
    for _ in in_threads(work, chunks):
        pass
