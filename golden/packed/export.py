"""Export of a packed checkpoint as dequantized weights, which transformers can load."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.cast_tensor import (
    DTYPE_NAMES,
    CastTensor,
    Rounding,
    cast_tensor,
    rounded_pieces,
)
from tritstream.golden.checkpoints.casting import AUTO, cast_dtypes, check_dtype
from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.convert import roundings
from tritstream.golden.checkpoints.directory import companions
from tritstream.golden.checkpoints.safetensors_reader import DTYPES, HEADER_CHECKSUM, Shard
from tritstream.golden.checkpoints.safetensors_writer import Entry, ShardWriter, write_shards
from tritstream.golden.checkpoints.slices import INPUTS_FIRST
from tritstream.golden.checkpoints.source import CONFIG, INDEX
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.checkpoints.weight_files import REFUSAL_FIELD, plain_name
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import (
    Job,
    check_apart,
    copy_files,
    fingerprint,
    write_json,
)
from tritstream.golden.matrix import dequantized_chunks, largest_weights
from tritstream.golden.packed.card import write_exported_card
from tritstream.golden.packed.layout import TRITS_SUFFIX
from tritstream.golden.packed.metadata import RECOVERED
from tritstream.golden.packed.reader import QUANT_METHOD, MatrixInfo, PackedCheckpoint

__all__ = ["export", "exported_weights"]


def export(
    path: str | Path, out_dir: str | Path, progress: Callable[[str], None] | None = None, *,
    force: bool = False, dtype: str | None = None,
) -> dict[str, list[Rounding]]:
    """Dequantize a packed checkpoint, and write it as a Hugging Face checkpoint of weights.

    By default the weights of a matrix are float16. Those of an imported matrix have the dtype and
    the exact values of their source. Unquantized tensors are copied. config.json is written without
    its ``quantization_config``, and states the dtype if all matrices have the same. Files are
    written as by :func:`.pack_checkpoint`: to OUT.partial first, and an interrupted call can be
    repeated. Memory is limited to the largest matrix.

    Parameters
    ----------
    path, out_dir : path
        Packed checkpoint, and directory to create.
    progress : callable
        Called with the name of each tensor when the tensor is on the disk.
    force : bool
        Whether to replace ``out_dir``, and to discard what another job left in ``OUT.partial``.
    dtype : str
        Dtype of all floating-point tensors, a key of :data:`.DTYPE_NAMES`. Weights of a matrix are
        rounded from float32, or from the dtype of an imported matrix. ``auto`` only converts
        unquantized float32 matrices, to 16 bits where that is exact.

    Returns the rounding errors of converted tensors, by file name. Raises :class:`.CheckpointError`
    if the packed checkpoint or the output directory is unusable, if a weight is beyond the range of
    its dtype, or if all weights of a matrix are rounded to zero. Raises :class:`ValueError` for an
    unknown dtype.
    """
    packed, out = PackedCheckpoint(path), Path(out_dir).absolute()
    check_apart(packed.path, out)
    changed = _changed(packed, dtype) if dtype else {}
    with Job(out, _identity(packed, changed), force=force) as job:
        files, size, lost = {}, 0, {}
        for shard in packed.shards.values():
            entries = _export_shard(packed, shard, job, progress, changed)
            name = plain_name(shard.path.name)
            lost[name] = roundings(job, [entry.name for entry in entries])
            for entry in entries:
                files[entry.name] = name
                size += entry.size
        write_json(job.partial / CONFIG, _config(packed, changed))
        if packed.sharded:
            index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(files.items()))}
            write_json(job.partial / INDEX, index)
        copy_files(companions(packed.path), job.partial)
        write_exported_card(job.partial, packed.config, packed.path)
        job.finish()
    return lost


def _changed(packed: PackedCheckpoint, dtype: str) -> dict[str, SourceTensor]:
    """Return the tensors whose dtype differs from the default, by name."""
    check_dtype(dtype)
    kept: dict[str, SourceTensor] = {name: CastTensor(packed.kept[name], ours)
                                     for name, ours in cast_dtypes(packed.kept, dtype).items()}
    if dtype == AUTO:
        return kept
    written = DTYPE_NAMES[dtype]
    weights = [_Weights(packed, name, _exact_dtype(packed, infos[0]), written)
               for name, infos in packed.origins.items() if infos[0].dtype != written]
    return kept | {tensor.name: cast_tensor(tensor, written) for tensor in weights}


def _exact_dtype(packed: PackedCheckpoint, info: MatrixInfo) -> str:
    """Return the dtype that holds the weights of a matrix before an explicit conversion."""
    return info.dtype if packed.codec == RECOVERED else "F32"


@dataclass(frozen=True)
class _Weights(ChunkedTensor):
    """Dequantized weights of a packed tensor of the source, with all its slices: a SourceTensor.

    ``dtype`` is the dtype of the values, ``written`` the dtype to which they are converted later.
    Reading raises :class:`CheckpointError` if weights are beyond the range of ``dtype``, or if all
    weights of a matrix with weights other than zero are zeros in ``written``.
    """

    packed:  PackedCheckpoint
    name:    str
    dtype:   str
    written: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.packed.source_shape(self.name)

    @property
    def path(self) -> Path:
        return self.packed.path / self.packed.origins[self.name][0].shard

    def chunks(self) -> Iterator[np.ndarray]:
        for info in self.packed.origins[self.name]:
            rows = self._rows(info)
            yield from [np.concatenate([*rows]).T] if info.axes == INPUTS_FIRST else rows

    def _rows(self, info: MatrixInfo) -> Iterator[np.ndarray]:
        """Yield the weights of a matrix, a few rows at a time."""
        matrix, dtype = self.packed.matrix(info.name), DTYPES[self.dtype]
        name = info.name if info.axes else info.origin
        with np.errstate(over="ignore", under="ignore"):
            values = largest_weights(matrix).astype(dtype).astype(DTYPES[self.written])
        if matrix.q.any() and not values.any():
            raise self._unfit(f"all weights of {name} vanish in {values.dtype.name}")
        for _, rows in dequantized_chunks(matrix, dtype):
            if not np.isfinite(rows).all():
                raise self._unfit(f"{name} has weights beyond {dtype.name}")
            yield rows

    def _unfit(self, fault: str) -> CheckpointError:
        return CheckpointError(f"{self.packed.path}: {fault}; export it with another --dtype, such "
                               "as float32")


def _identity(packed: PackedCheckpoint, changed: Mapping[str, SourceTensor]) -> dict:
    paths = [packed.path / CONFIG, *companions(packed.path)]
    paths += [shard.path for shard in packed.shards.values()]
    return {"job": "export", "files": fingerprint(paths),
            "dtypes": {name: tensor.dtype for name, tensor in changed.items()}}


def _config(packed: PackedCheckpoint, changed: Mapping[str, SourceTensor]) -> dict:
    fields = {name: value for name, value in packed.config.items()
              if name not in ("quantization_config", REFUSAL_FIELD)}
    names = {DTYPES[changed.get(name, infos[0]).dtype].name
             for name, infos in packed.origins.items()}
    if len(names) == 1:
        fields["dtype" if "dtype" in fields else "torch_dtype"] = names.pop()
    return fields


def _export_shard(
    packed: PackedCheckpoint, shard: Shard, job: Job, progress: Callable[[str], None] | None,
    changed: Mapping[str, SourceTensor],
) -> list[Entry]:
    """Write one file, and return its tensors."""
    entries = _entries(packed, shard, changed)
    ours = (QUANT_METHOD, HEADER_CHECKSUM)
    metadata = {name: text for name, text in shard.metadata.items() if name not in ours}
    writer = ShardWriter(job.partial / plain_name(shard.path.name), entries, lambda _: metadata)

    def write(name: str) -> dict:
        pieces, rounding = rounded_pieces(changed.get(name) or _unchanged(packed, name))
        return {"checksums": {name: writer.write(name, pieces)},
                "rounding": rounding.record() if rounding else None}

    steps = {entry.name: partial(write, entry.name) for entry in entries}
    write_shards(job, [(writer, steps)], progress)
    return entries


def _entries(
    packed: PackedCheckpoint, shard: Shard, changed: Mapping[str, SourceTensor],
) -> list[Entry]:
    entries = {}
    for name in shard.tensors:
        if name.endswith(TRITS_SUFFIX):
            name = packed.matrices[name.removesuffix(TRITS_SUFFIX)].origin
        # Slices may be in several shards: the tensor is where its first slice is.
        if name in packed.kept or (name in packed.origins
                                   and packed.origins[name][0].shard == shard.path.name):
            made = changed.get(name) or _unchanged(packed, name)
            entries[name] = Entry(name, made.dtype, made.shape, made.size)
    return [*entries.values()]


def _unchanged(packed: PackedCheckpoint, name: str) -> SourceTensor:
    """Return an exported tensor in its default dtype."""
    if name in packed.kept:
        return packed.kept[name]
    return exported_weights(packed, name)


def exported_weights(packed: PackedCheckpoint, name: str) -> SourceTensor:
    """Return a packed tensor of the source as :func:`export` writes it by default."""
    dtype = packed.origins[name][0].dtype
    return _Weights(packed, name, dtype, dtype)
