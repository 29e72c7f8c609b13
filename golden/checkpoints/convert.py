"""A source written as a Hugging Face directory, nothing quantized."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tritstream.golden.checkpoints.casting import Rounding, rounded_pieces
from tritstream.golden.checkpoints.safetensors_writer import Entry, ShardWriter, write_shards
from tritstream.golden.checkpoints.source import CONFIG, INDEX, Source
from tritstream.golden.jobs.directory_job import Job, check_apart, fingerprint, write_json
from tritstream.golden.jobs.journal import understood

__all__ = ["convert", "roundings"]


def convert(
    source: Source, out_dir: str | Path, progress: Callable[[str], None] | None = None, *,
    force: bool = False,
) -> dict[str, list[Rounding]]:
    """Write config.json, all tensors in their own dtypes, and the companion files.

    Returns by file what tensors lost that have another dtype than they are stored in, if the source
    is a :class:`tritstream.golden.checkpoints.casting.CastSource`.

    Files are made as by :func:`.pack_checkpoint`: OUT.partial first, resumed after a
    kill, memory bounded by a few megabytes of a tensor. ``progress`` gets the name of each tensor
    when it is on the disk. Raises :class:`tritstream.golden.errors.CheckpointError`.
    """
    out = Path(out_dir).absolute()
    check_apart(source.path, out)
    identity = {"job": "convert", "config": source.config, "files": fingerprint(source.files()),
                "shards": {file: dict(shard.metadata) for file, shard in source.shards.items()},
                "settings": dict(source.settings)}
    with Job(out, identity, force=force) as job:
        for file, shard in source.shards.items():
            metadata = dict(shard.metadata)
            entries = [Entry(tensor.name, tensor.dtype, tensor.shape, tensor.size)
                       for tensor in shard.tensors.values()]
            writer = ShardWriter(job.partial / file, entries, lambda _, same=metadata: same)

            def write(name: str, writer: ShardWriter = writer) -> dict:
                pieces, rounding = rounded_pieces(source.tensors[name])
                return {"checksums": {name: writer.write(name, pieces)},
                        "rounding": rounding and rounding.record()}

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
    """What tensors lost, of those that were converted, from the records of a job."""
    found = [job.done[name].get("rounding") for name in names]
    return [understood(Rounding.from_record, record, job.partial) for record in found if record]


def _index(source: Source) -> dict:
    places = {name: file for file, shard in source.shards.items() for name in shard.tensors}
    size = sum(tensor.size for tensor in source.tensors.values())
    return {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
