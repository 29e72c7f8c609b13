"""Packing of a checkpoint: one tensor at a time, in steps that survive a kill."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from golden.fixed import half_range
from golden.job import Job, check_apart, copy_files, write_json
from golden.metadata import SCALES_SUFFIX, TRITS_SUFFIX
from golden.plan import Plan, source_fingerprint
from golden.quantize import CODEC, TritMatrix, quantize
from golden.report import (
    PackReport,
    TensorReport,
    kept_report,
    matrix_report,
    relative_error,
)
from golden.shard_writer import ShardWriter
from golden.shards import CheckpointError, Shard, Tensor
from golden.sources import CONFIG, INDEX, MODULES_TO_NOT_CONVERT, Source
from golden.tiles import pack

__all__ = ["Encode", "Progress", "pack_checkpoint", "write_packed"]

#: Makes a matrix, and its report, of the module name and the tensor.
Encode = Callable[[str, Tensor], tuple[TritMatrix, TensorReport]]
#: Gets the report of each source tensor, in file order, when it is on the disk.
Progress = Callable[[TensorReport], None]


def pack_checkpoint(
    source_dir: str | Path, out_dir: str | Path, depth: int, *, force: bool = False,
    overrides: Mapping[str, int] | None = None, progress: Progress | None = None,
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
    half_range(depth)
    source, out = Source(source_dir), Path(out_dir).absolute()
    matrices = source.matrices(modules_to_not_convert)
    plan = Plan(source, matrices, depth, kept=modules_to_not_convert,
                depths=_depths(source.path, matrices, overrides or {}))
    check_apart(source.path, out)

    def encode(name: str, tensor: Tensor) -> tuple[TritMatrix, TensorReport]:
        weights = tensor.read()
        matrix = quantize(weights, plan.depth_of(name), tensor.name)
        return matrix, matrix_report(name, matrix, relative_error(matrix, weights))

    with Job(out, _identity(plan), force=force) as job:
        reports = write_packed(job, plan, encode, progress)
        job.finish()
    return PackReport(out, depth, reports)


def write_packed(
    job: Job, plan: Plan, encode: Encode, progress: Progress | None = None,
) -> tuple[TensorReport, ...]:
    """Write all files of a packed checkpoint but those that are done; reports in file order."""
    for shard in plan.source.shards.values():
        _write_shard(job, plan, shard, encode, progress)
    write_json(job.partial / CONFIG, plan.config())
    if plan.source.sharded:
        write_json(job.partial / INDEX, plan.index())
    copy_files(plan.source.companions(), job.partial)
    return tuple(TensorReport.from_record(job.done[name]) for name in plan.source.tensors)


def _identity(plan: Plan) -> dict:
    """What decides every byte of the output."""
    return {"job": "pack", "format_version": plan.version, "codec": CODEC, "depth": plan.depth,
            "depths": plan.depths, "kept": plan.kept, "files": source_fingerprint(plan.source)}


def _depths(
    path: Path, matrices: Iterable[str], overrides: Mapping[str, int],
) -> dict[str, int]:
    """Depths by module, of depths by pattern."""
    depths: dict[str, int] = {}
    for pattern, depth in overrides.items():
        half_range(depth)
        names = fnmatch.filter(matrices, pattern)
        if not names:
            raise CheckpointError(f"{path}: no matrix is named {pattern}, for which depth {depth} "
                                  "is asked; check the name")
        depths.update(dict.fromkeys(names, depth))
    return depths


def _write_shard(
    job: Job, plan: Plan, shard: Shard, encode: Encode, progress: Progress | None,
) -> None:
    writer = plan.writer(shard, job.partial)
    try:
        if not writer.whole:
            job.forget(shard.tensors)
        writer.allocate()
        for tensor in shard.tensors.values():
            if tensor.name not in job.done:
                report, checksums = _write_tensor(plan, tensor, writer, encode)
                job.record(tensor.name, {**report.record(), "checksums": checksums})
            if progress:
                progress(TensorReport.from_record(job.done[tensor.name]))
        checksums = {}
        for name in shard.tensors:
            checksums.update(job.done[name]["checksums"])
        writer.finish(checksums)
    finally:
        writer.close()


def _write_tensor(
    plan: Plan, tensor: Tensor, writer: ShardWriter, encode: Encode,
) -> tuple[TensorReport, dict[str, int]]:
    """Write what a tensor becomes; its report, and the CRC-32 of each tensor written."""
    name = plan.module_of(tensor)
    if name is None:
        return kept_report(tensor), {tensor.name: writer.write(tensor.name, tensor.pieces())}
    matrix, report = encode(name, tensor)
    trits, scales = name + TRITS_SUFFIX, name + SCALES_SUFFIX
    return report, {trits: writer.write(trits, [pack(matrix)]),
                    scales: writer.write(scales, [matrix.table])}
