"""Compilation by numba, with exactly the arithmetic of numpy, and a checked cache."""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import config, njit, types
from numba.core.caching import IndexDataCacheFile
from numba.core.ccallback import CFunc

from tritstream.golden.cache_place import cache_dir

__all__ = ["OPTIONS", "compiled", "compiled_for_c", "inlined"]

#: Division as in numpy, without a check of the divisor. No ``fastmath``, because no operation may
#: be reordered, fused or flushed to zero.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False}

_DIGEST = hashlib.sha256().digest_size


def compiled(function: Callable) -> Callable:
    """Return a compiled function that releases the GIL.

    The machine code is cached on the machine if a cache directory can be written.
    """
    def kept() -> Any:
        return njit(function, nogil=True, cache=True, **OPTIONS)

    return _checked_cache(kept) or njit(function, nogil=True, **OPTIONS)


def compiled_for_c(function: Callable, *arguments: Any) -> CFunc:
    """Return a compiled function without a result that C code can call, cached in the same way.

    ``arguments`` are its types for numba. The address is valid as long as the object exists.
    """
    made = CFunc(function, (arguments, types.void), locals={}, options=OPTIONS)

    def kept() -> Any:
        made.enable_caching()
        return made

    _checked_cache(kept)
    made.compile()
    return made


def _checked_cache(kept: Callable[[], Any]) -> Any:
    """Return a function with cached code, or None if numba finds no cache directory."""
    try:
        made = kept()
    except RuntimeError:
        # Neither the directory of this package nor numba's own cache directory can be written.
        vars(config)["CACHE_DIR"] = str(cache_dir() / "numba")
        try:
            made = kept()
        except RuntimeError:
            return None
    made._cache._cache_file.__class__ = _CheckedFile
    return made


def inlined(function: Callable) -> Callable:
    """Return a function that is copied into the compiled functions that call it."""
    return njit(function, inline="always", **OPTIONS)


class _CheckedFile(IndexDataCacheFile):
    """Numba's cache of one function, with a digest. A damaged entry is compiled again.

    Without the digest, numba would stop at a damaged entry in every run, or execute it. An entry
    that cannot be written is skipped.
    """

    def save(self, key: Any, data: Any) -> None:
        """Write machine code; ignore errors of the disk."""
        with suppress(OSError):
            super().save(key, data)

    def _dump(self, value: Any) -> bytes:
        data = super()._dump(value)
        return hashlib.sha256(data).digest() + data

    def _load_index(self) -> dict:
        try:
            with Path(self._index_path).open("rb") as file:
                version, data = pickle.load(file), file.read()
            stamp, overloads = _checked(data) if version == self._version else (None, {})
        except Exception:       # a damaged pickle can raise any exception
            return {}
        return overloads if stamp == self._source_stamp else {}

    def _load_data(self, name: str) -> Any:
        with Path(self._data_path(name)).open("rb") as file:
            return _checked(file.read())


def _checked(data: bytes) -> Any:
    """Return the value after its digest. Raises :class:`OSError` if the digest does not match."""
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        raise OSError("damaged")
    return pickle.loads(data[_DIGEST:])
