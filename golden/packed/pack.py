"""Packing of a checkpoint: one tensor at a time, in steps that survive a kill."""

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritstream.golden.checkpoints.casting import CastSource, cast_dtypes, rounded_pieces
from tritstream.golden.checkpoints.choice import Architecture, Selection
from tritstream.golden.checkpoints.row_reader import weights_of
from tritstream.golden.checkpoints.safetensors_writer import Place, ShardWriter, write_shards
from tritstream.golden.checkpoints.source import (
    CONFIG,
    INDEX,
    MODULES_TO_NOT_CONVERT,
    Source,
    Tensor,
)
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import half_range
from tritstream.golden.groups import WeightRows
from tritstream.golden.jobs.directory_job import Job, check_apart, write_json
from tritstream.golden.jobs.journal import understood
from tritstream.golden.jobs.local import in_flight
from tritstream.golden.jobs.malloc import keep_freed_memory
from tritstream.golden.jobs.step import Run, one_by_one
from tritstream.golden.matrix import Encoded
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.finite import FiniteCheck
from tritstream.golden.packed.matrix_packer import Packing
from tritstream.golden.packed.metadata import CONVERTED, SCALES_SUFFIX, TRITS_SUFFIX
from tritstream.golden.packed.plan import Plan, source_fingerprint
from tritstream.golden.packed.report import PackReport, TensorReport, kept_report
from tritstream.golden.quantizers.registry import DEFAULT, Method, method_of

__all__ = ["Encode", "Progress", "TensorStep", "pack_checkpoint", "write_packed"]

#: Bytes that copying holds.
_PIECES = 1 << 23

#: What the error of a matrix is measured against; None where it stands for the source exactly.
Weights = WeightRows | None
#: Makes a matrix of the module name and the tensor.
Encode = Callable[[str, SourceTensor], tuple[Encoded, Weights]]
#: Gets the report of each source tensor, in file order, when it is on the disk.
Progress = Callable[[TensorReport], None]


def pack_checkpoint(
    source_path: str | Path, out_dir: str | Path, depth: int, *, force: bool = False,
    overrides: Mapping[str, int] | None = None, progress: Progress | None = None,
    modules_to_not_convert: Sequence[str] = MODULES_TO_NOT_CONVERT, include: Sequence[str] = (),
    exclude: Sequence[str] = (), architecture: Architecture | None = None,
    method: Method | None = None, run: Run = in_flight, dtype: str | None = None,
    tokenizer: bool = True,
) -> PackReport:
    """Quantize and pack a checkpoint; memory is bounded by its largest matrix, or by a budget.

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
    include : sequence
        Modules to quantize all the same, by name or its last part: ``lm_head``, ``embed_tokens``.
    exclude : sequence
        Globs of modules to keep, of their name or its last parts; they are noted in the file.
    architecture : Architecture
        The model that config.json describes; without one, modules are chosen by their names.
    method : Method
        What encodes each matrix; by default :data:`tritstream.golden.quantizers.registry.DEFAULT`.
    run : Run
        Does the steps: side by side here, or elsewhere; decides no byte.
    dtype : str
        Dtype of the tensors that are kept, by :func:`.cast_dtypes`; by default each
        keeps its own.
    tokenizer : bool
        Whether that of a GGUF file is converted.

    Raises :class:`CheckpointError` for a checkpoint, a file or a directory that does not do,
    :class:`ValueError` for a wrong depth or weights that are not finite.
    """
    half_range(depth)
    method = method or method_of(DEFAULT)
    source, out = open_source(source_path, tokenizer=tokenizer), Path(out_dir).absolute()
    choice = source.choose(Selection(include, exclude, modules_to_not_convert, architecture))
    source, converted = _cast_kept(source, choice.matrices, dtype) if dtype else (source, {})
    notes = {"exclude": list(exclude)} if exclude else {}
    plan = Plan(source, choice.matrices, depth, kept=modules_to_not_convert, codec=method.codec,
                depths=_depths(source.path, choice.matrices, overrides or {}),
                notes=dict(method.settings) | notes | converted)
    check_apart(source.path, out)

    keep_freed_memory()
    encode = _Encode(method, plan.depth, plan.depths)
    with Job(out, _identity(plan, method), force=force) as job:
        reports = write_packed(job, plan, encode, progress, run=run, engine=method.engine)
        job.finish()
    return PackReport(out, depth, reports, choice.reasons)


@dataclass(frozen=True)
class _Encode:
    """An :data:`Encode` by a method, of the depths that modules have."""

    method: Method
    depth:  int
    depths: Mapping[str, int]

    def __call__(self, name: str, tensor: SourceTensor) -> tuple[Encoded, Weights]:
        weights = weights_of(tensor)
        depth = self.depths.get(name, self.depth)
        return self.method.encode(weights, depth, tensor.name), weights

    def memory(self, tensor: SourceTensor) -> int:
        """Bytes that encoding a tensor holds at most."""
        weights = 0 if isinstance(tensor, Tensor) else tensor.size
        return weights + int(self.method.memory * math.prod(tensor.shape))


def write_packed(
    job: Job, plan: Plan, encode: Encode, progress: Progress | None = None, *,
    run: Run = one_by_one, engine: str | None = None,
) -> tuple[TensorReport, ...]:
    """Write all files of a packed checkpoint but those that are done; reports in file order."""
    def done(name: str) -> None:
        if progress:
            progress(_report(job, name))

    shards = []
    for file, shard in plan.source.shards.items():
        writer = plan.writer(file, job.partial)
        shards.append((writer, {
            name: TensorStep.of(plan, tensor, writer, encode, engine)
            for name, tensor in shard.tensors.items()}))
    write_shards(job, shards, done, run)
    write_json(job.partial / CONFIG, plan.config())
    if plan.source.sharded:
        write_json(job.partial / INDEX, plan.index())
    plan.source.write_companions(job.partial)
    return tuple(_report(job, name) for name in plan.source.tensors)


def _report(job: Job, name: str) -> TensorReport:
    return understood(TensorReport.from_record, job.done[name], job.partial)


@dataclass(frozen=True)
class TensorStep:
    """Writes what a tensor becomes; returns its report, with the CRC-32 of each tensor written.

    It can be pickled when the tensor and ``encode`` can, and be done wherever their files are.

    Members
    -------
    tensor : SourceTensor
        What to read.
    module : str or None
        Name of the matrix it becomes, None when it is kept.
    places : mapping
        Where to write, by name.
    encode : Encode
        Makes the matrix.
    engine : str or None
        Packs the tiles.
    codec : str
        Profile of the matrix, for the advice of warnings.
    """

    tensor: SourceTensor
    module: str | None
    places: Mapping[str, Place]
    encode: Encode
    engine: str | None
    codec: str

    @classmethod
    def of(cls, plan: Plan, tensor: SourceTensor, writer: ShardWriter, encode: Encode,
           engine: str | None) -> "TensorStep":
        """The step of a tensor in a plan."""
        places = {entry.name: writer.place(entry.name) for entry in plan.written(tensor).entries}
        return cls(tensor, plan.module_of(tensor), places, encode, engine, plan.codec)

    @property
    def memory(self) -> int:
        """Bytes that it holds at most, to plan with."""
        return _PIECES if self.module is None else self.encode.memory(self.tensor)

    def __call__(self) -> dict:
        if self.module is None:
            name, check = self.tensor.name, FiniteCheck(self.tensor.dtype, self.tensor.shape)
            pieces, rounding = rounded_pieces(self.tensor)
            checksums = {name: self.places[name].write(check.watch(pieces))}
            return {**kept_report(self.tensor, check.fault, rounding).record(),
                    "checksums": checksums}
        matrix, weights = self.encode(self.module, self.tensor)
        packing = Packing(matrix, weights, self.engine)
        pieces = {self.module + TRITS_SUFFIX: packing.pieces(),
                  self.module + SCALES_SUFFIX: [matrix.table]}
        checksums = {name: self.places[name].write(bytes_) for name, bytes_ in pieces.items()}
        return {**packing.report(self.module, self.codec).record(), "checksums": checksums}


def _identity(plan: Plan, method: Method) -> dict:
    """What decides every byte of the output."""
    return {"job": "pack", "format_version": plan.version, "codec": method.codec,
            "settings": dict(method.settings), "depth": plan.depth, "depths": plan.depths,
            "kept": plan.kept, "files": source_fingerprint(plan.source),
            "source": dict(plan.source.settings)}


def _cast_kept(
    source: Source, matrices: Mapping[str, SourceTensor], dtype: str,
) -> tuple[Source, dict[str, object]]:
    """The source with its kept tensors in another dtype, and the note for the configuration."""
    packed = {tensor.name for tensor in matrices.values()}
    kept = {name: tensor for name, tensor in source.tensors.items() if name not in packed}
    dtypes = cast_dtypes(kept, dtype)
    if not dtypes:
        return source, {}
    return CastSource(source, dtypes), {CONVERTED: {name: kept[name].dtype for name in dtypes}}


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
