"""A source written as a Hugging Face directory, nothing quantized."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from golden.job import Job, check_apart, fingerprint, write_json
from golden.shard_writer import Entry, ShardWriter, write_shards
from golden.sources import CONFIG, INDEX, Source

__all__ = ["convert"]


def convert(
    source: Source, out_dir: str | Path, progress: Callable[[str], None] | None = None, *,
    force: bool = False,
) -> None:
    """Write config.json, all tensors in their own dtypes, and the companion files.

    Files are made as by :func:`golden.packer.pack_checkpoint`: OUT.partial first, resumed after a
    kill, memory bounded by a few megabytes of a tensor. ``progress`` gets the name of each tensor
    when it is on the disk. Raises :class:`golden.shards.CheckpointError`.
    """
    out = Path(out_dir).absolute()
    check_apart(source.path, out)
    identity = {"job": "convert", "config": source.config, "files": fingerprint(source.files()),
                "shards": {file: dict(shard.metadata) for file, shard in source.shards.items()}}
    with Job(out, identity, force=force) as job:
        for file, shard in source.shards.items():
            metadata = dict(shard.metadata)
            entries = [Entry(tensor.name, tensor.dtype, tensor.shape, tensor.size)
                       for tensor in shard.tensors.values()]
            writer = ShardWriter(job.partial / file, entries, lambda _, same=metadata: same)

            def write(name: str, writer: ShardWriter = writer) -> dict:
                return {"checksums": {name: writer.write(name, source.tensors[name].pieces())}}

            steps = {name: partial(write, name) for name in shard.tensors}
            write_shards(job, [(writer, steps)], progress)
        write_json(job.partial / CONFIG, source.config)
        if source.sharded:
            write_json(job.partial / INDEX, _index(source))
        source.write_companions(job.partial)
        job.finish()


def _index(source: Source) -> dict:
    places = {name: file for file, shard in source.shards.items() for name in shard.tensors}
    size = sum(tensor.size for tensor in source.tensors.values())
    return {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
