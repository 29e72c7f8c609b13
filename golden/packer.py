"""Packing of a checkpoint: one tensor at a time, in steps that survive a kill."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from golden.checkpoint import (
    FORMAT_VERSION,
    SCALES_SUFFIX,
    TRITS_SUFFIX,
    quantization_config,
    shard_metadata,
)
from golden.fixed import SCALES, half_range
from golden.job import Job, check_apart, copy_files, fingerprint, write_json
from golden.quantize import CODEC, quantize
from golden.report import PackReport, TensorReport, kept_report, matrix_report
from golden.shard_writer import Entry, ShardWriter
from golden.shards import CheckpointError, Shard, Tensor
from golden.sources import CONFIG, INDEX, MODULES_TO_NOT_CONVERT, Source
from golden.tiles import pack, tiles_shape

__all__ = ["pack_checkpoint"]


def pack_checkpoint(
    source_dir: str | Path, out_dir: str | Path, depth: int, *, force: bool = False,
    overrides: Mapping[str, int] | None = None,
    progress: Callable[[TensorReport], None] | None = None,
    modules_to_not_convert: Sequence[str] = MODULES_TO_NOT_CONVERT,
) -> PackReport:
    """Quantize and pack a Hugging Face checkpoint; memory is bounded by its largest matrix.

    Everything is written to ``OUT.partial``, which becomes OUT at the very end. After a kill or an
    error the same call goes on behind the last finished tensor and gives the same bytes.

    Parameters
    ----------
    source_dir, out_dir : path
        The checkpoint, and the directory to make.
    depth : int
        Trits of a weight, 1..4.
    force : bool
        Replace ``out_dir``, and discard what another job left in ``OUT.partial``.
    overrides : mapping
        Depths by module name, ``*`` and the like allowed; of several that fit the last counts.
    progress : callable
        Gets the report of each source tensor, in file order, when it is on the disk.
    modules_to_not_convert : sequence
        Modules to keep, besides embeddings and norms.

    Raises :class:`CheckpointError` for a checkpoint, a file or a directory that does not do,
    :class:`ValueError` for a wrong depth or weights that are not finite.
    """
    source, out = Source(source_dir), Path(out_dir).absolute()
    plan = _Plan(source, depth, dict(overrides or {}), tuple(modules_to_not_convert))
    check_apart(source.path, out)
    with Job(out, plan.identity(), force=force) as job:
        for shard in source.shards.values():
            _pack_shard(plan, shard, job, progress)
        write_json(job.partial / CONFIG, plan.config())
        if source.sharded:
            write_json(job.partial / INDEX, plan.index())
        copy_files(source.companions(), job.partial)
        job.finish()
        reports = [TensorReport.from_record(job.done[name]) for name in source.tensors]
    return PackReport(out, depth, tuple(reports))


@dataclass(frozen=True)
class _Written:
    """What is written for one source tensor: entries, and the shapes that metadata give them."""

    entries: tuple[Entry, ...]
    shapes:  dict[str, tuple[int, ...]]


class _Plan:
    """What becomes of each tensor, decided before anything is written."""

    def __init__(
        self, source: Source, depth: int, overrides: dict[str, int], kept: tuple[str, ...],
    ):
        half_range(depth)
        self.source = source
        self.depth = depth
        self.matrices = source.matrices(kept)
        self._check_names()
        self.depths = self._resolve(overrides)
        modules = {name.removesuffix(".weight") for name, tensor in source.tensors.items()
                   if len(tensor.shape) == 2 and name.endswith(".weight")}
        self.kept = sorted({*kept, *modules} - self.matrices.keys())

    def identity(self) -> dict:
        """What decides every byte of the output."""
        paths = [self.source.path / CONFIG, *self.source.companions()]
        paths += [shard.path for shard in self.source.shards.values()]
        return {"job": "pack", "format_version": FORMAT_VERSION, "codec": CODEC,
                "depth": self.depth, "depths": self.depths, "kept": self.kept,
                "files": fingerprint(paths)}

    def config(self) -> dict:
        """config.json of the output."""
        fields = quantization_config(self.depth, self.depths, self.kept)
        return {**self.source.config, "quantization_config": fields}

    def index(self) -> dict:
        """model.safetensors.index.json of the output."""
        places, size = {}, 0
        for file, shard in self.source.shards.items():
            for tensor in shard.tensors.values():
                for entry in self.written(tensor).entries:
                    places[entry.name] = file
                    size += entry.size
        return {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}

    def written(self, tensor: Tensor) -> _Written:
        """What is written for one tensor."""
        name = tensor.name.removesuffix(".weight")
        if self.matrices.get(name) is not tensor:
            entry = Entry(tensor.name, tensor.dtype, tensor.shape, tensor.size)
            return _Written((entry,), {tensor.name: tensor.shape})
        rows, groups, size = shape = tiles_shape(tensor.shape, self.depth_of(name))
        trits = Entry(name + TRITS_SUFFIX, "U8", shape, rows * groups * size)
        scales = Entry(name + SCALES_SUFFIX, "F32", (SCALES,), 4 * SCALES)
        return _Written((trits, scales), {trits.name: tensor.shape, scales.name: (SCALES,)})

    def depth_of(self, name: str) -> int:
        """Trits of a weight of this matrix."""
        return self.depths.get(name, self.depth)

    def _check_names(self) -> None:
        """No tensor may be called what a packed matrix is, or would be taken for one."""
        taken = {name + SCALES_SUFFIX for name in self.matrices}
        for name, tensor in self.source.tensors.items():
            if name in taken or name.endswith(TRITS_SUFFIX):
                raise CheckpointError(f"{tensor.path}: {name} has a name that packed matrices "
                                      "take; rename it in the source")

    def _resolve(self, overrides: dict[str, int]) -> dict[str, int]:
        """Depths that differ, by module."""
        depths = {}
        for pattern, depth in overrides.items():
            half_range(depth)
            names = fnmatch.filter(self.matrices, pattern)
            if not names:
                raise CheckpointError(f"{self.source.path}: no matrix is named {pattern}, for "
                                      f"which depth {depth} is asked; check the name")
            depths.update(dict.fromkeys(names, depth))
        return {name: depth for name, depth in depths.items() if depth != self.depth}


def _pack_shard(
    plan: _Plan, shard: Shard, job: Job, progress: Callable[[TensorReport], None] | None,
) -> None:
    writer = _open_writer(plan, shard, job.partial)
    try:
        if not writer.whole:
            job.forget(shard.tensors)
        writer.allocate()
        for tensor in shard.tensors.values():
            if tensor.name not in job.done:
                report, checksums = _pack_tensor(plan, tensor, writer)
                job.record(tensor.name, {**report.record(), "checksums": checksums})
            if progress:
                progress(TensorReport.from_record(job.done[tensor.name]))
        checksums = {}
        for name in shard.tensors:
            checksums.update(job.done[name]["checksums"])
        writer.finish(checksums)
    finally:
        writer.close()


def _open_writer(plan: _Plan, shard: Shard, directory: Path) -> ShardWriter:
    written = [plan.written(tensor) for tensor in shard.tensors.values()]
    shapes = {name: shape for one in written for name, shape in one.shapes.items()}
    return ShardWriter(
        directory / shard.path.name, [entry for one in written for entry in one.entries],
        lambda checksums: shard_metadata(shard.metadata, shapes, checksums),
    )


def _pack_tensor(
    plan: _Plan, tensor: Tensor, writer: ShardWriter,
) -> tuple[TensorReport, dict[str, int]]:
    """Write what a tensor becomes; its report, and the CRC-32 of each tensor written."""
    name = tensor.name.removesuffix(".weight")
    if plan.matrices.get(name) is not tensor:
        return kept_report(tensor), {tensor.name: writer.write(tensor.name, tensor.pieces())}
    weights = tensor.read()
    matrix = quantize(weights, plan.depth_of(name), tensor.name)
    report = matrix_report(name, matrix, weights)
    del weights
    trits, scales = name + TRITS_SUFFIX, name + SCALES_SUFFIX
    return report, {trits: writer.write(trits, [pack(matrix)]),
                    scales: writer.write(scales, [matrix.table])}
