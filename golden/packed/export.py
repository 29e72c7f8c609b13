"""Export of a packed checkpoint dequantized, which a stock transformers model loads."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.casting import (
    AUTO,
    DTYPE_NAMES,
    CastTensor,
    Rounding,
    cast_dtypes,
    cast_tensor,
    check_dtype,
    rounded_pieces,
)
from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.convert import roundings
from tritstream.golden.checkpoints.directory import companions
from tritstream.golden.checkpoints.safetensors_reader import DTYPES, HEADER_CHECKSUM, Shard
from tritstream.golden.checkpoints.safetensors_writer import Entry, ShardWriter, write_shards
from tritstream.golden.checkpoints.source import CONFIG, INDEX
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import (
    Job,
    check_apart,
    copy_files,
    fingerprint,
    write_json,
)
from tritstream.golden.matrix import code_values, dequantized_chunks
from tritstream.golden.packed.metadata import RECOVERED
from tritstream.golden.packed.reader import QUANT_METHOD, TRITS_SUFFIX, MatrixInfo, PackedCheckpoint

__all__ = ["export"]


def export(
    path: str | Path, out_dir: str | Path, progress: Callable[[str], None] | None = None, *,
    force: bool = False, dtype: str | None = None,
) -> dict[str, list[Rounding]]:
    """Write a packed checkpoint as one of weights, each matrix in its form and dtype.

    That is float16, or for an imported matrix what it was stored in, and the very same values.
    config.json loses its ``quantization_config`` and names the dtype, when matrices have but one;
    kept tensors stay as they are, in their own dtypes. Files are made as by
    :func:`.pack_checkpoint`: OUT.partial first, resumed after a kill, memory bounded
    by the largest matrix. ``progress`` gets the name of each tensor when it is on the disk.

    With a ``dtype`` of :data:`.DTYPE_NAMES`, all tensors of floating point are of it,
    matrices rounded from float32, or from what they were imported as. With ``auto``, kept float32
    matrices have 16 bits where that is exact. Returns by file what tensors lost.

    Raises :class:`CheckpointError` for a packed checkpoint or a directory that does not do, or a
    weight beyond its dtype; :class:`ValueError` for an unknown dtype.
    """
    packed, out = PackedCheckpoint(path), Path(out_dir).absolute()
    check_apart(packed.path, out)
    changed = _changed(packed, dtype) if dtype else {}
    with Job(out, _identity(packed, changed), force=force) as job:
        places, size, lost = {}, 0, {}
        for shard in packed.shards.values():
            entries = _export_shard(packed, shard, job, progress, changed)
            lost[shard.path.name] = roundings(job, [entry.name for entry in entries])
            for entry in entries:
                places[entry.name] = shard.path.name
                size += entry.size
        write_json(job.partial / CONFIG, _config(packed, changed))
        if packed.sharded:
            index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
            write_json(job.partial / INDEX, index)
        copy_files(companions(packed.path), job.partial)
        job.finish()
    return lost


def _changed(packed: PackedCheckpoint, dtype: str) -> dict[str, SourceTensor]:
    """The tensors that get another dtype than they have without being asked."""
    check_dtype(dtype)
    kept: dict[str, SourceTensor] = {name: CastTensor(packed.kept[name], ours)
                                     for name, ours in cast_dtypes(packed.kept, dtype).items()}
    if dtype == AUTO:
        return kept
    weights = [_Matrix(packed, info.name) for info in packed.matrices.values()
               if info.dtype != DTYPE_NAMES[dtype]]
    return kept | {matrix.name: cast_tensor(matrix, DTYPE_NAMES[dtype]) for matrix in weights}


@dataclass(frozen=True)
class _Matrix(ChunkedTensor):
    """A packed matrix as a SourceTensor of the values that its integers stand for."""

    packed: PackedCheckpoint
    module: str

    @property
    def name(self) -> str:
        return f"{self.module}.weight"

    @property
    def shape(self) -> tuple[int, int]:
        return self.packed.matrices[self.module].shape

    @property
    def path(self) -> Path:
        return self.packed.path / self.packed.matrices[self.module].shard

    @property
    def dtype(self) -> str:
        """What the values are known in: what they were imported as, or float32."""
        return self.packed.matrices[self.module].dtype if self.packed.codec == RECOVERED else "F32"

    def chunks(self) -> Iterator[np.ndarray]:
        for _, rows in dequantized_chunks(self.packed.matrix(self.module), DTYPES[self.dtype]):
            yield _finite(rows, self.path.parent, self.name)


def _identity(packed: PackedCheckpoint, changed: Mapping[str, SourceTensor]) -> dict:
    paths = [packed.path / CONFIG, *companions(packed.path)]
    paths += [shard.path for shard in packed.shards.values()]
    return {"job": "export", "files": fingerprint(paths),
            "dtypes": {name: tensor.dtype for name, tensor in changed.items()}}


def _config(packed: PackedCheckpoint, changed: Mapping[str, SourceTensor]) -> dict:
    fields = {name: value for name, value in packed.config.items()
              if name != "quantization_config"}
    names = {_dtype(info, changed).name for info in packed.matrices.values()}
    if len(names) == 1:
        fields["dtype" if "dtype" in fields else "torch_dtype"] = names.pop()
    return fields


def _dtype(info: MatrixInfo, changed: Mapping[str, SourceTensor]) -> np.dtype:
    """Dtype of the weights of a matrix in the output."""
    made = changed.get(f"{info.name}.weight")
    return DTYPES[made.dtype if made else info.dtype]


def _export_shard(
    packed: PackedCheckpoint, shard: Shard, job: Job, progress: Callable[[str], None] | None,
    changed: Mapping[str, SourceTensor],
) -> list[Entry]:
    """Write one file, and return what is in it."""
    entries = _entries(packed, shard, changed)
    ours = (QUANT_METHOD, HEADER_CHECKSUM)
    metadata = {name: text for name, text in shard.metadata.items() if name not in ours}
    writer = ShardWriter(job.partial / shard.path.name, entries, lambda _: metadata)

    def write(name: str) -> dict:
        made = changed.get(name)
        pieces, rounding = rounded_pieces(made) if made else (_pieces(packed, name), None)
        return {"checksums": {name: writer.write(name, pieces)},
                "rounding": rounding and rounding.record()}

    steps = {entry.name: partial(write, entry.name) for entry in entries}
    write_shards(job, [(writer, steps)], progress)
    return entries


def _entries(
    packed: PackedCheckpoint, shard: Shard, changed: Mapping[str, SourceTensor],
) -> list[Entry]:
    entries = []
    for name, tensor in shard.tensors.items():
        module = name.removesuffix(TRITS_SUFFIX)
        if name in packed.kept:
            made = changed.get(name, tensor)
            entries.append(Entry(name, made.dtype, made.shape, made.size))
        elif module != name:
            info = packed.matrices[module]
            dtype = changed.get(f"{module}.weight", info).dtype
            size = math.prod(info.shape) * DTYPES[dtype].itemsize
            entries.append(Entry(f"{module}.weight", dtype, info.shape, size))
    return entries


def _pieces(packed: PackedCheckpoint, name: str) -> Iterator[bytes]:
    """Bytes of an exported tensor, a few rows at a time."""
    if name in packed.kept:
        yield from packed.kept[name].pieces()
        return
    module = name.removesuffix(".weight")
    dtype, matrix = DTYPES[packed.matrices[module].dtype], packed.matrix(module)
    if matrix.q.any() and not code_values(matrix, dtype).any():
        raise _unfit(packed.path, f"all weights of {name} vanish in {dtype.name}")
    for _, rows in dequantized_chunks(matrix, dtype):
        yield _finite(rows, packed.path, name).tobytes()


def _finite(rows: np.ndarray, path: Path, name: str) -> np.ndarray:
    if not np.isfinite(rows).all():
        raise _unfit(path, f"{name} has weights beyond {rows.dtype.name}")
    return rows


def _unfit(path: Path, fault: str) -> CheckpointError:
    return CheckpointError(f"{path}: {fault}; export it with another --dtype, such as float32")
