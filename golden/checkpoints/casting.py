"""Dtypes of checkpoints that are written: tensors rounded to 16 bits, or widened to 32."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError

__all__ = ["AUTO", "DTYPE_NAMES", "CastSource", "CastTensor", "Rounding", "cast", "cast_dtypes",
           "cast_tensor", "check_dtype", "rounded_pieces"]

#: Chooses a dtype for each tensor: :func:`cast_dtypes`.
AUTO = "auto"
#: By the names of PyTorch, what safetensors calls a dtype.
DTYPE_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_TORCH = {ours: name for name, ours in DTYPE_NAMES.items()}

#: Dtypes that are converted when one is asked for.
_FLOATS = ("F64", "F32", "F16", "BF16")
#: Largest error of dequantized values by their largest: half a unit in the last place of float16.
_ENOUGH = 2.0 ** -11


@dataclass
class Rounding:
    """What a tensor lost when it was converted.

    Members
    -------
    name, before, after : str
        The tensor, and its dtypes as safetensors calls them.
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
        """The error relative to the largest value."""
        return self.error / self.largest if self.error else 0.0

    def line(self) -> str:
        """One line for a report."""
        lost = (f"largest error {self.error:.2e} ({self.share:.1e} of its largest value)"
                if self.error else "exact")
        before = _TORCH.get(self.before, self.before)
        return f"{self.name}: {before} to {_TORCH[self.after]}, {lost}"

    def record(self) -> dict:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> "Rounding":
        """Reverse of :meth:`record`."""
        return cls(**record)


@dataclass(frozen=True)
class CastTensor(ChunkedTensor):
    """A tensor as it is in another dtype, rounded to nearest even: a SourceTensor.

    Raises :class:`CheckpointError` while it is read, for a finite value beyond that dtype.
    """

    source: SourceTensor
    dtype:  str

    @property
    def name(self) -> str:
        """Name of the source tensor."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the source tensor."""
        return self.source.shape

    @property
    def path(self) -> Path:
        """File of the source tensor."""
        return self.source.path

    def chunks(self) -> Iterator[np.ndarray]:
        """The converted values, in order: (n,) each."""
        return self.measured(self.rounding())

    def rounding(self) -> Rounding:
        """What is lost, to be filled by :meth:`measured`."""
        return Rounding(self.name, self.source.dtype, self.dtype)

    def measured(self, rounding: Rounding) -> Iterator[np.ndarray]:
        """The same as :meth:`chunks`, while what is lost is noted."""
        for values in _values(self.source):
            yield self._cast(values, rounding)

    def _cast(self, values: np.ndarray, rounding: Rounding) -> np.ndarray:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            made = values.astype(DTYPES[self.dtype])
            # Neither wide numbers nor narrow ones compute in their own dtypes.
            before, after = values.astype(np.float64), made.astype(np.float64)
        finite = np.isfinite(before)
        if not np.isfinite(after[finite]).all():
            value = before[finite][np.argmax(np.abs(before[finite]))]
            wider = "bfloat16" if self.dtype == "F16" else "float32"
            raise CheckpointError(f"{self.path}: {self.name} holds {value:.6g}, beyond "
                                  f"{_TORCH[self.dtype]}; choose another --dtype, such as {wider}")
        if finite.any():
            rounding.error = max(rounding.error,
                                 float(np.abs(after[finite] - before[finite]).max()))
            rounding.largest = max(rounding.largest, float(np.abs(before[finite]).max()))
        return made


class CastSource(Source):
    """A checkpoint some of whose tensors have another dtype.

    Parameters
    ----------
    source : Source
        The checkpoint.
    dtypes : mapping
        Dtype, as safetensors calls it, by the names of the tensors that change:
        :func:`cast_dtypes`.
    config_dtype : str, optional
        Dtype to name in the configuration, as PyTorch calls it.
    """

    def __init__(
        self, source: Source, dtypes: Mapping[str, str], config_dtype: str | None = None,
    ):
        self._source = source
        self.path, self.sharded, self.config = source.path, source.sharded, source.config
        if config_dtype:
            key = "dtype" if "dtype" in source.config else "torch_dtype"
            self.config = {**source.config, key: config_dtype}
        self.shards = {file: _Shard(shard.metadata, _cast_all(shard.tensors, dtypes))
                       for file, shard in source.shards.items()}
        self.tensors = {name: tensor for shard in self.shards.values()
                        for name, tensor in shard.tensors.items()}
        self.settings = {**source.settings, **({"dtypes": dict(dtypes)} if dtypes else {})}

    def files(self) -> list[Path]:
        """Files of the source: :meth:`tritstream.golden.checkpoints.source.Source.files`."""
        return self._source.files()

    def write_companions(self, directory: Path) -> None:
        """Write those of the source: :meth:`.Source.write_companions`."""
        self._source.write_companions(directory)


@dataclass(frozen=True)
class _Shard:
    metadata: Mapping[str, str]
    tensors:  Mapping[str, SourceTensor]


def check_dtype(dtype: str) -> None:
    """Raises :class:`ValueError` for a dtype that a checkpoint cannot be written in."""
    if dtype != AUTO and dtype not in DTYPE_NAMES:
        raise ValueError(f"dtype must be one of {AUTO}, {', '.join(DTYPE_NAMES)}, not {dtype}")


def cast(
    source: Source, dtype: str, progress: Callable[[str], None] | None = None,
) -> CastSource:
    """A checkpoint in another dtype, which its configuration names where all matrices have it.

    See :func:`cast_dtypes`.
    """
    dtypes = cast_dtypes(source.tensors, dtype, progress)
    matrices = {dtypes.get(name, tensor.dtype) for name, tensor in source.tensors.items()
                if len(tensor.shape) == 2}
    named = _TORCH.get(matrices.pop()) if dtypes and len(matrices) == 1 else None
    return CastSource(source, dtypes, named)


def cast_dtypes(
    tensors: Mapping[str, SourceTensor], dtype: str,
    progress: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """Dtypes of the tensors that change, by name.

    Of a dtype by its name, all tensors of floating point change that are not of it. ``auto`` leaves
    vectors, and what has 16 bits. It makes float16 of a float32 matrix that is only the dequantized
    form of blocks, if no value is off by more than 2^-11 of the largest one; any other float32
    matrix becomes float16 or bfloat16 if that is exact. Tensors that may not fit are read once, so
    that nothing is written if one does not. ``progress`` gets the name of each tensor.

    Raises :class:`ValueError` for an unknown dtype, :class:`CheckpointError` for a value beyond it.
    """
    check_dtype(dtype)
    chosen = {}
    for name, tensor in tensors.items():
        made = _narrow(tensor) if dtype == AUTO else _asked(tensor, DTYPE_NAMES[dtype])
        if made:
            chosen[name] = made
        if progress:
            progress(name)
    return chosen


def cast_tensor(tensor: SourceTensor, dtype: str) -> SourceTensor:
    """The tensor in a dtype, as safetensors calls it; itself if it has that."""
    return tensor if tensor.dtype == dtype else CastTensor(tensor, dtype)


def rounded_pieces(tensor: SourceTensor) -> tuple[Iterator[bytes], Rounding | None]:
    """The bytes of a tensor, and what is lost, complete when they were read; None if unchanged."""
    if not isinstance(tensor, CastTensor):
        return tensor.pieces(), None
    rounding = tensor.rounding()
    return (chunk.tobytes() for chunk in tensor.measured(rounding)), rounding


def _cast_all(
    tensors: Mapping[str, SourceTensor], dtypes: Mapping[str, str],
) -> dict[str, SourceTensor]:
    return {name: CastTensor(tensor, dtypes[name]) if name in dtypes else tensor
            for name, tensor in tensors.items()}


def _values(tensor: SourceTensor) -> Iterator[np.ndarray]:
    """The values of a tensor in order: (n,), a few megabytes at a time."""
    dtype = DTYPES[tensor.dtype]
    for piece in tensor.pieces():
        if len(piece):
            yield np.frombuffer(piece, dtype)


def _asked(tensor: SourceTensor, dtype: str) -> str | None:
    """The dtype, unless a tensor has it or is no floating point; raises if values do not fit."""
    if tensor.dtype not in _FLOATS or tensor.dtype == dtype:
        return None
    made = CastTensor(tensor, dtype)
    if _limit(dtype) < _limit(tensor.dtype):
        for _ in made.chunks():
            pass
    return dtype


def _limit(dtype: str) -> float:
    return float(ml_dtypes.finfo(DTYPES[dtype]).max)


def _narrow(tensor: SourceTensor) -> str | None:
    """The dtype of 16 bits that holds a float32 matrix well enough, if there is one."""
    if tensor.dtype != "F32" or len(tensor.shape) < 2:
        return None
    made = [CastTensor(tensor, dtype) for dtype in ("F16", "BF16")]
    lost = {one.dtype: one.rounding() for one in made}
    enough = _ENOUGH if getattr(tensor, "dequantized", False) else 0.0
    for values in _values(tensor):
        for one in made:
            if one.dtype in lost and not _fits(one, values, lost[one.dtype], enough):
                del lost[one.dtype]
        if not lost:
            return None
    exact = [dtype for dtype, rounding in lost.items() if not rounding.error]
    fit = [dtype for dtype, rounding in lost.items()
           if rounding.error <= enough * rounding.largest]
    return next(iter(exact + fit), None)


def _fits(made: CastTensor, values: np.ndarray, rounding: Rounding, enough: float) -> bool:
    """Whether some values may be of this dtype; notes what is lost."""
    try:
        made._cast(values, rounding)
    except CheckpointError:
        return False
    return bool(enough) or not rounding.error
