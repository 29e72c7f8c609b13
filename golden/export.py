"""Export of a packed checkpoint dequantized, which a stock transformers model loads."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from golden.checkpoint import QUANT_METHOD, TRITS_SUFFIX, MatrixInfo, PackedCheckpoint
from golden.job import Job, check_apart, copy_files, fingerprint, write_json
from golden.quantize import TritMatrix, code_values, dequantized_chunks
from golden.shard_writer import Entry, ShardWriter, write_shards
from golden.shards import DTYPES, HEADER_CHECKSUM, CheckpointError, Shard
from golden.sources import CONFIG, INDEX, companions

__all__ = ["export"]


def export(
    path: str | Path, out_dir: str | Path, progress: Callable[[str], None] | None = None, *,
    force: bool = False,
) -> None:
    """Write a packed checkpoint as one of weights, each matrix in its form and dtype.

    That is float16, or for an imported matrix what it was stored in, and the very same values.
    config.json loses its ``quantization_config`` and names the dtype, when matrices have but one;
    kept tensors stay as they are, in their own dtypes. Files are made as by
    :func:`golden.packer.pack_checkpoint`: OUT.partial first, resumed after a kill, memory bounded
    by the largest matrix. ``progress`` gets the name of each tensor when it is on the disk.

    Raises :class:`CheckpointError` for a packed checkpoint or a directory that does not do, or a
    weight beyond its dtype.
    """
    packed, out = PackedCheckpoint(path), Path(out_dir).absolute()
    check_apart(packed.path, out)
    with Job(out, _identity(packed), force=force) as job:
        places, size = {}, 0
        for shard in packed.shards.values():
            for entry in _export_shard(packed, shard, job, progress):
                places[entry.name] = shard.path.name
                size += entry.size
        write_json(job.partial / CONFIG, _config(packed))
        if packed.sharded:
            index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
            write_json(job.partial / INDEX, index)
        copy_files(companions(packed.path), job.partial)
        job.finish()


def _identity(packed: PackedCheckpoint) -> dict:
    paths = [packed.path / CONFIG, *companions(packed.path)]
    paths += [shard.path for shard in packed.shards.values()]
    return {"job": "export", "files": fingerprint(paths)}


def _config(packed: PackedCheckpoint) -> dict:
    fields = {name: value for name, value in packed.config.items()
              if name != "quantization_config"}
    names = {_dtype(info).name for info in packed.matrices.values()}
    if len(names) == 1:
        fields["dtype" if "dtype" in fields else "torch_dtype"] = names.pop()
    return fields


def _dtype(info: MatrixInfo) -> np.dtype:
    return DTYPES[info.dtype]


def _export_shard(
    packed: PackedCheckpoint, shard: Shard, job: Job, progress: Callable[[str], None] | None,
) -> list[Entry]:
    """Write one file, and return what is in it."""
    entries = _entries(packed, shard)
    ours = (QUANT_METHOD, HEADER_CHECKSUM)
    metadata = {name: text for name, text in shard.metadata.items() if name not in ours}
    writer = ShardWriter(job.partial / shard.path.name, entries, lambda _: metadata)

    def write(name: str) -> dict:
        return {"checksums": {name: writer.write(name, _pieces(packed, name))}}

    steps = {entry.name: partial(write, entry.name) for entry in entries}
    write_shards(job, [(writer, steps)], progress)
    return entries


def _entries(packed: PackedCheckpoint, shard: Shard) -> list[Entry]:
    entries = []
    for name, tensor in shard.tensors.items():
        module = name.removesuffix(TRITS_SUFFIX)
        if name in packed.kept:
            entries.append(Entry(name, tensor.dtype, tensor.shape, tensor.size))
        elif module != name:
            info = packed.matrices[module]
            size = math.prod(info.shape) * _dtype(info).itemsize
            entries.append(Entry(f"{module}.weight", info.dtype, info.shape, size))
    return entries


def _values(matrix: TritMatrix, dtype: np.dtype) -> np.ndarray:
    """All values that a weight may have, in a dtype."""
    with np.errstate(over="ignore", under="ignore"):
        return code_values(matrix).astype(dtype)


def _pieces(packed: PackedCheckpoint, name: str) -> Iterator[bytes]:
    """Bytes of an exported tensor, a few rows at a time."""
    if name in packed.kept:
        yield from packed.kept[name].pieces()
        return
    module = name.removesuffix(".weight")
    dtype, matrix = _dtype(packed.matrices[module]), packed.matrix(module)
    if matrix.q.any() and not _values(matrix, dtype).any():
        raise CheckpointError(f"{packed.path}: all weights of {name} vanish in {dtype.name}; it "
                              "cannot be exported")
    for _, rows in dequantized_chunks(matrix, dtype):
        if not np.isfinite(rows).all():
            raise CheckpointError(f"{packed.path}: {name} has weights beyond {dtype.name}; "
                                  "it cannot be exported")
        yield rows.tobytes()
