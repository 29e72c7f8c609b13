"""The C library's memory: what is freed is kept for the next rows."""

import ctypes

__all__ = ["keep_freed_memory"]

# Parameters of mallopt, as <malloc.h> numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Have glibc keep freed arrays of up to 8 MB, up to 64 MB a thread; whether it does.

    By itself it gives a temporary of a megabyte back to the kernel each time, and to have its pages
    again costs more than the arithmetic on it. Larger arrays are given back as ever.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(parameter, size) for parameter, size in (
            (_M_MMAP_THRESHOLD, 8 << 20), (_M_TRIM_THRESHOLD, 64 << 20)))
