"""Packing of a checkpoint: one tensor at a time, in steps that survive a kill."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from golden.fixed import half_range
from golden.job import Job, check_apart, write_json
from golden.metadata import SCALES_SUFFIX, TRITS_SUFFIX
from golden.methods import Method, method_of
from golden.plan import Plan, source_fingerprint
from golden.quantize import CODEC, TritMatrix
from golden.report import (
    PackReport,
    TensorReport,
    kept_report,
    matrix_report,
    relative_error,
)
from golden.shard_writer import ShardWriter, write_shard
from golden.shards import CheckpointError
from golden.sources import CONFIG, INDEX, MODULES_TO_NOT_CONVERT, SourceTensor, open_source
from golden.tiles import pack

__all__ = ["Encode", "Progress", "pack_checkpoint", "write_packed"]

#: Makes a matrix, and its report, of the module name and the tensor.
Encode = Callable[[str, SourceTensor], tuple[TritMatrix, TensorReport]]
#: Gets the report of each source tensor, in file order, when it is on the disk.
Progress = Callable[[TensorReport], None]


def pack_checkpoint(
    source_path: str | Path, out_dir: str | Path, depth: int, *, force: bool = False,
    overrides: Mapping[str, int] | None = None, progress: Progress | None = None,
    modules_to_not_convert: Sequence[str] = MODULES_TO_NOT_CONVERT,
    method: Method | None = None,
) -> PackReport:
    """Quantize and pack a checkpoint; memory is bounded by its largest matrix.

    Everything is written to ``OUT.partial``, which becomes OUT at the very end. After a kill or an
    error the same call goes on behind the last finished tensor and gives the same bytes.

    Parameters
    ----------
    source_path, out_dir : path
        The checkpoint, a Hugging Face directory or a GGUF file, and the directory to make.
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
    method : Method
        What encodes each matrix; by default ``tritllm-v2``.

    Raises :class:`CheckpointError` for a checkpoint, a file or a directory that does not do,
    :class:`ValueError` for a wrong depth or weights that are not finite.
    """
    half_range(depth)
    method = method or method_of(CODEC)
    source, out = open_source(source_path), Path(out_dir).absolute()
    matrices = source.matrices(modules_to_not_convert)
    plan = Plan(source, matrices, depth, kept=modules_to_not_convert,
                codec=method.codec, depths=_depths(source.path, matrices, overrides or {}))
    check_apart(source.path, out)

    def encode(name: str, tensor: SourceTensor) -> tuple[TritMatrix, TensorReport]:
        weights = tensor.read()
        matrix = method.encode(weights, plan.depth_of(name), tensor.name)
        return matrix, matrix_report(name, matrix, relative_error(matrix, weights))

    with Job(out, _identity(plan, method), force=force) as job:
        reports = write_packed(job, plan, encode, progress)
        job.finish()
    return PackReport(out, depth, reports)


def write_packed(
    job: Job, plan: Plan, encode: Encode, progress: Progress | None = None,
) -> tuple[TensorReport, ...]:
    """Write all files of a packed checkpoint but those that are done; reports in file order."""
    def done(name: str) -> None:
        if progress:
            progress(TensorReport.from_record(job.done[name]))

    for file, shard in plan.source.shards.items():
        writer = plan.writer(file, job.partial)
        steps = {name: partial(_write_tensor, plan, tensor, writer, encode)
                 for name, tensor in shard.tensors.items()}
        write_shard(job, writer, steps, done)
    write_json(job.partial / CONFIG, plan.config())
    if plan.source.sharded:
        write_json(job.partial / INDEX, plan.index())
    plan.source.write_companions(job.partial)
    return tuple(TensorReport.from_record(job.done[name]) for name in plan.source.tensors)


def _identity(plan: Plan, method: Method) -> dict:
    """What decides every byte of the output."""
    return {"job": "pack", "format_version": plan.version, "codec": method.codec,
            "settings": dict(method.settings), "depth": plan.depth, "depths": plan.depths,
            "kept": plan.kept, "files": source_fingerprint(plan.source)}


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


def _write_tensor(
    plan: Plan, tensor: SourceTensor, writer: ShardWriter, encode: Encode,
) -> dict:
    """Write what a tensor becomes; its report, with the CRC-32 of each tensor written."""
    name = plan.module_of(tensor)
    if name is None:
        checksums = {tensor.name: writer.write(tensor.name, tensor.pieces())}
        return {**kept_report(tensor).record(), "checksums": checksums}
    matrix, report = encode(name, tensor)
    trits, scales = name + TRITS_SUFFIX, name + SCALES_SUFFIX
    checksums = {trits: writer.write(trits, [pack(matrix)]),
                 scales: writer.write(scales, [matrix.table])}
    return {**report.record(), "checksums": checksums}
