"""Setting of the C library that keeps freed memory for reuse."""

import ctypes

__all__ = ["keep_freed_memory"]

# Parameters of mallopt, as <malloc.h> numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Make glibc keep freed arrays of up to 8 MB, up to 64 MB per thread; return whether it does.

    By default glibc returns each temporary of a megabyte to the kernel, and getting its pages again
    takes longer than the arithmetic on it. Larger arrays are returned as usual.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(parameter, size) for parameter, size in (
            (_M_MMAP_THRESHOLD, 8 << 20), (_M_TRIM_THRESHOLD, 64 << 20)))
