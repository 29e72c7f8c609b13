"""How functions are compiled: by numba, with the arithmetic of numpy and nothing else."""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import config, njit
from numba.core.caching import IndexDataCacheFile

from tritstream.golden.cache_place import cache_dir

__all__ = ["OPTIONS", "compiled", "inlined"]

#: Division as numpy does it, with no check of the divisor. No ``fastmath``: nothing may be
#: reordered, fused or flushed to zero.
OPTIONS = {"error_model": "numpy", "fastmath": False}

_DIGEST = hashlib.sha256().digest_size


def compiled(function: Callable) -> Callable:
    """A function that runs outside of the GIL; compiled once a machine, where it can be kept."""
    made = _kept(function)
    if made is None:
        # Neither this directory nor the user's can be written.
        config.CACHE_DIR = str(cache_dir() / "numba")
        made = _kept(function)
    return made or njit(function, nogil=True, **OPTIONS)


def _kept(function: Callable) -> Callable | None:
    """A compiled function whose code is kept; None where numba finds no place for it."""
    try:
        made = njit(function, nogil=True, cache=True, **OPTIONS)
    except RuntimeError:
        return None
    made._cache._cache_file.__class__ = _CheckedFile
    return made


def inlined(function: Callable) -> Callable:
    """A part of compiled functions, copied into them."""
    return njit(function, inline="always", **OPTIONS)


class _CheckedFile(IndexDataCacheFile):
    """Numba's cache of one function, with a digest: a damaged entry is compiled again.

    Numba itself would stop at it in every run, or execute it. That an entry cannot be written is
    no reason to stop either.
    """

    def save(self, key: Any, data: Any) -> None:
        """Keep machine code, if the disk takes it."""
        with suppress(OSError):
            super().save(key, data)

    def _dump(self, value: Any) -> bytes:
        data = super()._dump(value)
        return hashlib.sha256(data).digest() + data

    def _load_index(self) -> dict:
        try:
            with open(self._index_path, "rb") as file:
                version, data = pickle.load(file), file.read()
            stamp, overloads = _checked(data) if version == self._version else (None, {})
        except Exception:       # whatever a damaged pickle raises
            return {}
        return overloads if stamp == self._source_stamp else {}

    def _load_data(self, name: str) -> Any:
        with open(self._data_path(name), "rb") as file:
            return _checked(file.read())


def _checked(data: bytes) -> Any:
    """The value behind its digest; raises :class:`OSError`, as for a file that is gone."""
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        raise OSError("damaged")
    return pickle.loads(data[_DIGEST:])
