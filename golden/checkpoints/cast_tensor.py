"""Tensors converted to another floating-point dtype, and the rounding errors of the conversion."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChangedTensor, ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError

__all__ = ["DTYPE_NAMES", "TORCH_NAMES", "CastTensor", "Rounding", "cast_tensor", "rounded_pieces",
           "value_chunks"]

#: Dtype names of safetensors, by the names of PyTorch.
DTYPE_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
#: Dtype names of PyTorch, by the names of safetensors.
TORCH_NAMES = {ours: name for name, ours in DTYPE_NAMES.items()}


@dataclass
class Rounding:
    """Rounding error of a tensor that was converted to another dtype.

    Members
    -------
    name, before, after : str
        Name of the tensor, and its two dtypes as safetensors calls them.
    error : float
        Largest absolute error of a value.
    largest : float
        Largest absolute value.
    """

    name:    str
    before:  str
    after:   str
    error:   float = 0.0
    largest: float = 0.0

    @property
    def share(self) -> float:
        """Largest error relative to the largest value."""
        return self.error / self.largest if self.error else 0.0

    def line(self) -> str:
        """Return one line for a report."""
        lost = (f"largest error {self.error:.2e} ({self.share:.1e} of its largest value)"
                if self.error else "exact")
        before = TORCH_NAMES.get(self.before, self.before)
        return f"{self.name}: {before} to {TORCH_NAMES[self.after]}, {lost}"

    def record(self) -> dict:
        """Return the members as a dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> "Rounding":
        """Return the rounding error that :meth:`record` made a dict of."""
        return cls(**record)


@dataclass(frozen=True)
class CastTensor(ChangedTensor, ChunkedTensor):
    """Source tensor converted to another dtype, rounded to nearest even.

    Reading it raises :class:`CheckpointError` if a finite value is beyond the range of the dtype.

    Members
    -------
    source : SourceTensor
        The tensor before the conversion.
    dtype : str
        Dtype after the conversion, as safetensors calls it.
    """

    dtype: str

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the converted values in order, as arrays (n,)."""
        return self.measured(self.rounding())

    def rounding(self) -> Rounding:
        """Return a rounding error of zero, for :meth:`measured` to update."""
        return Rounding(self.name, self.source.dtype, self.dtype)

    def measured(self, rounding: Rounding) -> Iterator[np.ndarray]:
        """Yield the converted values like :meth:`chunks`, and update their rounding error."""
        for values in value_chunks(self.source):
            yield self.convert(values, rounding)

    def convert(self, values: np.ndarray, rounding: Rounding) -> np.ndarray:
        """Return values of the source (n,) in the dtype, and update their rounding error.

        Raises :class:`CheckpointError` for a finite value beyond the range of the dtype.
        """
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            converted = values.astype(DTYPES[self.dtype])
            # In float64, because errors of float64 values, or of 16-bit values, would be inexact
            # or overflow in the narrower dtype.
            before, after = values.astype(np.float64), converted.astype(np.float64)
        finite = np.isfinite(before)
        if not np.isfinite(after[finite]).all():
            value = before[finite][np.argmax(np.abs(before[finite]))]
            wider = "bfloat16" if self.dtype == "F16" else "float32"
            raise CheckpointError(f"{self.path}: {self.name} holds {value:.6g}, beyond "
                                  f"{TORCH_NAMES[self.dtype]}; choose another --dtype, such as "
                                  f"{wider}")
        if finite.any():
            rounding.error = max(rounding.error,
                                 float(np.abs(after[finite] - before[finite]).max()))
            rounding.largest = max(rounding.largest, float(np.abs(before[finite]).max()))
        return converted


def cast_tensor(tensor: SourceTensor, dtype: str) -> SourceTensor:
    """Return the tensor in a dtype (named as in safetensors); unchanged if it has the dtype."""
    return tensor if tensor.dtype == dtype else CastTensor(tensor, dtype)


def rounded_pieces(tensor: SourceTensor) -> tuple[Iterator[bytes], Rounding | None]:
    """Return the bytes of a tensor, and its rounding error, None if the tensor is not converted.

    The rounding error is complete when all bytes have been read.
    """
    if not isinstance(tensor, CastTensor):
        return tensor.pieces(), None
    rounding = tensor.rounding()
    return (chunk.tobytes() for chunk in tensor.measured(rounding)), rounding


def value_chunks(tensor: SourceTensor) -> Iterator[np.ndarray]:
    """Yield the values of a tensor in order, as arrays (n,) of a few megabytes."""
    dtype = DTYPES[tensor.dtype]
    for piece in tensor.pieces():
        if len(piece):
            yield np.frombuffer(piece, dtype)
