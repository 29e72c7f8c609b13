"""Sharing of work among the threads of torch.

torch keeps threads of OpenMP, which wait for work by spinning: for some milliseconds after an
operation they take a core from any other thread. So products run in the same threads. On cores that
other programs use as well, each share must wait until its thread gets a core. Then work is done by
the caller alone for a while.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import inf
from time import perf_counter

import torch

__all__ = ["Sharing"]

#: Seconds that a wait for other threads may take, beside twice the time of the work alone.
_PATIENCE = 1e-3
#: Calls that are not shared after one that took longer.
_CALLS = 256
_Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Sharing:
    """Calls of a function of C, in all threads of torch as long as this saves time.

    Parameters
    ----------
    function : int
        Address of a ``void(void *)``, which must not use Python. All threads call it with the same
        argument, and it takes parts of the work until none is left.
    least : int
        Size of the smallest work that is shared.
    """

    def __init__(self, function: int, least: int):
        self._function, self._call, self._least = function, _Function(function), least
        self._seconds = inf         # per unit of size, alone
        self._unshared = 0

    def run(self, argument: int, size: int) -> None:
        """Call the function with the address of its argument, and wait for all threads."""
        threads = torch.get_num_threads()
        began = perf_counter()
        if size < self._least or threads == 1:
            self._call(argument)
        elif self._unshared or self._seconds == inf:
            self._call(argument)
            self._seconds = min(self._seconds, (perf_counter() - began) / size)
            self._unshared = max(0, self._unshared - 1)
        else:
            self._in_all(argument, threads)
            if perf_counter() - began > _PATIENCE + 2 * self._seconds * size:
                self._unshared = _CALLS

    def _in_all(self, argument: int, threads: int) -> None:
        if parallel := _openmp():
            parallel(self._function, argument, threads, 0)
            return
        waiting = [_pool().submit(self._call, argument) for _ in range(1, threads)]
        self._call(argument)
        for one in waiting:
            one.result()


@cache
def _openmp() -> Callable | None:
    """Return GOMP_parallel of the OpenMP library that torch has loaded, or None."""
    if _forked:
        return None
    try:
        # Symbols of the program and of what it has loaded for all.
        parallel = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, TypeError):     # another OpenMP; Windows
        return None
    parallel.restype = None
    parallel.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
    return parallel


@cache
def _pool() -> ThreadPoolExecutor:
    """Return threads that stay, because to start them takes longer than many products."""
    return ThreadPoolExecutor(torch.get_num_threads(), "products")


_forked: list[bool] = []


def _after_fork() -> None:
    """Forget the threads, because a forked process has none of them."""
    _forked.append(True)
    _openmp.cache_clear()
    _pool.cache_clear()


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
