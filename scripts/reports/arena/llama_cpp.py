"""The quantizer of llama.cpp, called in its shared library."""

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["FILE_TYPES", "LlamaCpp"]

#: Numbers of llama.cpp's mixtures of types (``llama_ftype``), by their names.
FILE_TYPES = {"Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ3_XXS": 23, "IQ4_XS": 30}
_ADVICE = ("get one by `npm pack @node-llama-cpp/linux-x64`, or by a build of llama.cpp, and name "
           "its directory")


class _Imatrix(ctypes.Structure):
    """``struct llama_model_imatrix_data``."""

    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)),
                ("size", ctypes.c_size_t))


class _Parameters(ctypes.Structure):
    """``struct llama_model_quantize_params``, and room for members that newer versions add."""

    _fields_ = (
        ("threads", ctypes.c_int32), ("file_type", ctypes.c_int), ("output_type", ctypes.c_int),
        ("embedding_type", ctypes.c_int), ("allow_requantize", ctypes.c_bool),
        ("quantize_output", ctypes.c_bool), ("only_copy", ctypes.c_bool), ("pure", ctypes.c_bool),
        ("keep_split", ctypes.c_bool), ("dry_run", ctypes.c_bool),
        ("imatrix", ctypes.POINTER(_Imatrix)), ("overrides", ctypes.c_void_p * 3),
        ("later", ctypes.c_byte * 64))


_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class LlamaCpp:
    """The library in a directory.

    Raises :class:`ValueError` if it is not there, or if its parameters are not those known here.
    """

    def __init__(self, directory: Path):
        found = sorted(directory.glob("libllama.*so*")) + sorted(directory.glob("libllama.*dylib"))
        if not found:
            raise ValueError(f"{directory}: has no libllama; {_ADVICE}")
        try:
            self._library = ctypes.CDLL(str(found[0].resolve()))
        except OSError as error:
            raise ValueError(f"{found[0]}: cannot be loaded: {error}; {_ADVICE}") from None
        self.name, self._said = found[0].name, ""
        self._log = _Log(self._keep)
        self._library.llama_log_set(self._log, None)
        self._library.llama_backend_init()
        defaults = self._library.llama_model_quantize_default_params
        defaults.restype = _Parameters
        self._check(defaults())

    def quantize(
        self, source: Path, output: Path, file_type: str,
        imatrix: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Quantize a GGUF file to a mixture of types, in one thread.

        Parameters
        ----------
        source, output : Path
        file_type : str
            One of :data:`FILE_TYPES`.
        imatrix : mapping, optional
            Importance of each column, float32 (K,), by name of tensor in the file.

        Raises :class:`ValueError` with what the library says if it fails.
        """
        parameters = self._library.llama_model_quantize_default_params()
        parameters.threads, parameters.file_type = 1, FILE_TYPES[file_type]
        kept = {name.encode(): np.ascontiguousarray(values, np.float32)
                for name, values in (imatrix or {}).items()}
        # An entry without a name ends the list.
        entries = (_Imatrix * (len(kept) + 1))(*(
            _Imatrix(name, values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), values.size)
            for name, values in kept.items()))
        if kept:
            parameters.imatrix = entries
        self._said = ""
        if self._library.llama_model_quantize(str(source).encode(), str(output).encode(),
                                              ctypes.byref(parameters)):
            raise ValueError(f"{self.name}: {file_type} failed: {self._said.strip()}")

    def _check(self, defaults: _Parameters) -> None:
        """Raise unless the default parameters are those of the known layout."""
        flags = (defaults.allow_requantize, defaults.quantize_output, defaults.only_copy,
                 defaults.pure, defaults.keep_split, defaults.dry_run)
        if (flags != (False, True, False, False, False, False) or defaults.threads
                or defaults.imatrix or any(defaults.overrides)):
            raise ValueError(f"{self.name}: the parameters of its quantizer have another "
                             "layout than is known here; take another version of llama.cpp")

    def _keep(self, level: int, text: bytes, _: None) -> None:
        """Keep the last error of the library's log."""
        if level == 4:
            self._said = text.decode(errors="replace")
