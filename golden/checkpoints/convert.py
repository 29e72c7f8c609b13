"""Conversion of a source to a Hugging Face directory, without quantization."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tritstream.golden.checkpoints.cast_tensor import Rounding, rounded_pieces
from tritstream.golden.checkpoints.safetensors_writer import Entry, ShardWriter, write_shards
from tritstream.golden.checkpoints.source import CONFIG, INDEX, Source
from tritstream.golden.checkpoints.source_tensor import SourceShard
from tritstream.golden.checkpoints.unrotated import unrotated
from tritstream.golden.jobs.directory_job import Job, check_apart, write_json
from tritstream.golden.jobs.journal import understood

__all__ = ["convert", "roundings", "shard_writer"]


def convert(
    source: Source, out_dir: str | Path, progress: Callable[[str], None] | None = None, *,
    force: bool = False,
) -> dict[str, list[Rounding]]:
    """Write config.json, all tensors in the dtypes of the source, and the companion files.

    Files are written as by :func:`.pack_checkpoint`: to OUT.partial first, and an interrupted call
    can be repeated. Rotated matrices are rotated back. Memory use is a few megabytes. ``progress``
    is called with the name of each tensor when the tensor is on the disk.

    Returns the rounding errors of converted tensors, by file name. Only a :class:`.CastSource` has
    converted tensors. Raises :class:`.CheckpointError` for unusable files or directories.
    """
    source, out = unrotated(source), Path(out_dir).absolute()
    check_apart(source.path, out)
    identity = {"job": "convert", "config": source.config, "files": source.fingerprint(),
                "shards": {file: dict(shard.metadata) for file, shard in source.shards.items()},
                "settings": dict(source.settings)}
    with Job(out, identity, force=force) as job:
        for file, shard in source.shards.items():
            writer = shard_writer(job.partial / file, shard)

            def write(name: str, writer: ShardWriter = writer) -> dict:
                pieces, rounding = rounded_pieces(source.tensors[name])
                return {"checksums": {name: writer.write(name, pieces)},
                        "rounding": rounding.record() if rounding else None}

            steps = {name: partial(write, name) for name in shard.tensors}
            write_shards(job, [(writer, steps)], progress)
        write_json(job.partial / CONFIG, source.config)
        if source.sharded:
            write_json(job.partial / INDEX, _index(source))
        source.write_companions(job.partial)
        lost = {file: roundings(job, shard.tensors) for file, shard in source.shards.items()}
        job.finish()
    return lost


def roundings(job: Job, names: Iterable[str]) -> list[Rounding]:
    """Return the rounding errors of converted tensors among ``names``, from a job's records."""
    records = [job.done[name].get("rounding") for name in names]
    return [understood(Rounding.from_record, record, job.partial) for record in records if record]


def shard_writer(path: Path, shard: SourceShard) -> ShardWriter:
    """Return the writer of a file with the tensors and the metadata of a shard."""
    metadata = dict(shard.metadata)
    entries = [Entry(tensor.name, tensor.dtype, tensor.shape, tensor.size)
               for tensor in shard.tensors.values()]
    return ShardWriter(path, entries, lambda _: metadata)


def _index(source: Source) -> dict:
    files = {name: file for file, shard in source.shards.items() for name in shard.tensors}
    size = sum(tensor.size for tensor in source.tensors.values())
    return {"metadata": {"total_size": size}, "weight_map": dict(sorted(files.items()))}
