"""Threads of torch, which compiled functions run in.

torch keeps threads of OpenMP, which wait for work by spinning: for some milliseconds after an
operation they take a core from any other thread. So products run in the same threads.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

__all__ = ["run_in_all"]


def run_in_all(function: int, argument: int) -> None:
    """Call a function of C, ``void(void *)``, once in each thread of torch, and wait.

    Parameters
    ----------
    function : int
        Address of the function, which must not use Python.
    argument : int
        Address that all calls get.
    """
    count = torch.get_num_threads()
    if count > 1 and (parallel := _openmp()):
        parallel(function, argument, count, 0)
        return
    call = _Function(function)
    waiting = [_pool().submit(call, argument) for _ in range(1, count)]
    call(argument)
    for one in waiting:
        one.result()


_Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


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
