"""Dtypes of checkpoints that are written: which tensors are converted to 16 or to 32 bits."""

from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

from tritstream.golden.checkpoints.cast_tensor import (
    DTYPE_NAMES,
    TORCH_NAMES,
    CastTensor,
    Rounding,
    value_chunks,
)
from tritstream.golden.checkpoints.changed_source import ChangedSource
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError

__all__ = ["AUTO", "DTYPE_NAMES", "CastSource", "Rounding", "cast", "cast_dtypes", "check_dtype"]

#: Name that selects a dtype per tensor: see :func:`cast_dtypes`.
AUTO = "auto"

#: Dtypes that are converted on request.
_FLOATS = ("F64", "F32", "F16", "BF16")
#: Largest accepted error of dequantized values, relative to their largest value: half a unit in the
#: last place of float16.
_TOLERANCE = 2.0 ** -11


class CastSource(ChangedSource):
    """A checkpoint with some tensors converted to another dtype.

    Parameters
    ----------
    source : Source
        The checkpoint before the conversion.
    dtypes : mapping
        Dtype, as safetensors calls it, of each tensor that is converted, by tensor name. See
        :func:`cast_dtypes`.
    config_dtype : str, optional
        Dtype that the configuration states, as PyTorch calls it.
    """

    def __init__(
        self, source: Source, dtypes: Mapping[str, str], config_dtype: str | None = None,
    ):
        super().__init__(source, lambda tensors: _cast_all(tensors, dtypes))
        if config_dtype:
            key = "dtype" if "dtype" in source.config else "torch_dtype"
            self.config = {**source.config, key: config_dtype}
        self.settings = {**source.settings, **({"dtypes": dict(dtypes)} if dtypes else {})}


def check_dtype(dtype: str) -> None:
    """Raise :class:`ValueError` for a dtype in which no checkpoint can be written."""
    if dtype != AUTO and dtype not in DTYPE_NAMES:
        raise ValueError(f"dtype must be one of {AUTO}, {', '.join(DTYPE_NAMES)}, not {dtype}")


def cast(
    source: Source, dtype: str, progress: Callable[[str], None] | None = None,
) -> CastSource:
    """Return a checkpoint with its tensors converted: see :func:`cast_dtypes`.

    If all matrices then have the same dtype, the configuration states it.
    """
    dtypes = cast_dtypes(source.tensors, dtype, progress)
    matrices = {dtypes.get(name, tensor.dtype) for name, tensor in source.tensors.items()
                if len(tensor.shape) == 2}
    config_dtype = TORCH_NAMES.get(matrices.pop()) if dtypes and len(matrices) == 1 else None
    return CastSource(source, dtypes, config_dtype)


def cast_dtypes(
    tensors: Mapping[str, SourceTensor], dtype: str,
    progress: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """Return the new dtype, as safetensors calls it, of each tensor to be converted, by name.

    ``float32``, ``float16`` and ``bfloat16`` convert all floating-point tensors of other dtypes.
    ``auto`` converts only float32 matrices. A float32 matrix that was dequantized from blocks
    becomes float16 if no error is above 2^-11 of the largest value. Any other float32 matrix
    becomes float16 or bfloat16 if all values are exact.

    Tensors whose values may be out of range are read once here, so that nothing is written if a
    value is. ``progress`` is called with the name of each tensor.

    Raises :class:`ValueError` for an unknown dtype, and :class:`CheckpointError` for a value beyond
    the range of the dtype.
    """
    check_dtype(dtype)
    chosen = {}
    for name, tensor in tensors.items():
        new = _narrow(tensor) if dtype == AUTO else _requested(tensor, DTYPE_NAMES[dtype])
        if new:
            chosen[name] = new
        if progress:
            progress(name)
    return chosen


def _cast_all(
    tensors: Mapping[str, SourceTensor], dtypes: Mapping[str, str],
) -> dict[str, SourceTensor]:
    return {name: CastTensor(tensor, dtypes[name]) if name in dtypes else tensor
            for name, tensor in tensors.items()}


def _requested(tensor: SourceTensor, dtype: str) -> str | None:
    """Return the dtype, or None for a tensor that is not converted; raise if values do not fit."""
    if tensor.dtype not in _FLOATS or tensor.dtype == dtype:
        return None
    if _limit(dtype) < _limit(tensor.dtype):
        for _ in CastTensor(tensor, dtype).chunks():
            pass
    return dtype


def _limit(dtype: str) -> float:
    return float(ml_dtypes.finfo(DTYPES[dtype]).max)


def _narrow(tensor: SourceTensor) -> str | None:
    """Return the 16-bit dtype that holds a float32 matrix accurately enough, or None."""
    if tensor.dtype != "F32" or len(tensor.shape) < 2:
        return None
    candidates = [CastTensor(tensor, dtype) for dtype in ("F16", "BF16")]
    roundings = {one.dtype: one.rounding() for one in candidates}
    tolerance = _TOLERANCE if getattr(tensor, "dequantized", False) else 0.0
    for values in value_chunks(tensor):
        for candidate in candidates:
            rounding = roundings.get(candidate.dtype)
            if rounding and not _fits(candidate, values, rounding, tolerance):
                del roundings[candidate.dtype]
        if not roundings:
            return None
    exact = [dtype for dtype, rounding in roundings.items() if not rounding.error]
    accurate = [dtype for dtype, rounding in roundings.items()
                if rounding.error <= tolerance * rounding.largest]
    return next(iter(exact + accurate), None)


def _fits(
    candidate: CastTensor, values: np.ndarray, rounding: Rounding, tolerance: float,
) -> bool:
    """Return whether some values may have this dtype, and update their rounding error."""
    try:
        candidate.convert(values, rounding)
    except CheckpointError:
        return False
    return bool(tolerance) or not rounding.error
