"""Packing of a checkpoint: one tensor per step, so that an interrupted job can resume."""

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tritstream.golden.checkpoints.casting import CastSource, cast_dtypes
from tritstream.golden.checkpoints.changed_source import SlicedSource
from tritstream.golden.checkpoints.choice import Architecture, Selection
from tritstream.golden.checkpoints.row_reader import weights_of
from tritstream.golden.checkpoints.safetensors_writer import write_shards
from tritstream.golden.checkpoints.source import (
    CONFIG,
    MODULES_TO_NOT_CONVERT,
    Source,
    Tensor,
)
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.checkpoints.unrotated import unrotated
from tritstream.golden.checkpoints.weight_files import PACKED, PLAIN, REFUSAL_INDEX
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import half_range
from tritstream.golden.groups import WeightRows
from tritstream.golden.jobs.directory_job import Job, check_apart, write_json
from tritstream.golden.jobs.journal import understood
from tritstream.golden.jobs.local import in_flight
from tritstream.golden.jobs.malloc import keep_freed_memory
from tritstream.golden.jobs.step import Run, one_by_one
from tritstream.golden.matrix import DirectMatrix, Encoded
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.card import base_of, write_packed_card
from tritstream.golden.packed.layout import Layout
from tritstream.golden.packed.metadata import CONVERTED
from tritstream.golden.packed.plan import Plan
from tritstream.golden.packed.report import PackReport, TensorReport
from tritstream.golden.packed.tensor_step import TensorEncoder, TensorStep
from tritstream.golden.quantizers.registry import DEFAULT, Method, method_of

__all__ = ["Progress", "pack_checkpoint", "write_others", "write_packed", "write_weights"]

#: Called with the report of each source tensor, in file order, when the tensor is on the disk.
Progress = Callable[[TensorReport], None]


def pack_checkpoint(
    source_path: str | Path, out_dir: str | Path, depth: int, *, force: bool = False,
    overrides: Mapping[str, int] | None = None, progress: Progress | None = None,
    modules_to_not_convert: Sequence[str] = MODULES_TO_NOT_CONVERT, include: Sequence[str] = (),
    exclude: Sequence[str] = (), architecture: Architecture | None = None,
    method: Method | None = None, run: Run = in_flight, dtype: str | None = None,
    tokenizer: bool = True, base_model: str | None = None,
) -> PackReport:
    """Quantize and pack a checkpoint.

    All files are written to ``OUT.partial``, which is renamed to OUT at the end. After an
    interruption or an error, the same call resumes after the last finished tensor and writes the
    same bytes. Memory is limited to a budget, or to the largest matrix if that needs more. Tensors
    with the matrices of several experts are packed as one matrix per expert:
    :mod:`tritstream.golden.checkpoints.slices`.

    Parameters
    ----------
    source_path, out_dir : path
        Source checkpoint (Hugging Face directory or GGUF file), and directory to create.
    depth : int
        Trits per weight, 1..4.
    force : bool
        Whether to replace ``out_dir``, and to discard what another job left in ``OUT.partial``.
    overrides : mapping
        Depths by glob of module names. If several globs match, the last one is used.
    progress : callable
        Called with the report of each source tensor, in file order, when it is on the disk.
    modules_to_not_convert : sequence
        Modules to keep unquantized, in addition to embeddings and norms.
    include : sequence
        Modules to quantize despite the defaults: names or last parts, such as ``lm_head``.
    exclude : sequence
        Globs of modules to keep unquantized, for names or last parts. The globs are recorded in
        config.json.
    architecture : Architecture
        Architecture that config.json describes. If None, modules are selected by name.
    method : Method
        Quantization method, by default :data:`tritstream.golden.quantizers.registry.DEFAULT`.
    run : Run
        Function that runs the steps, concurrently or on a cluster. It does not affect the output.
    dtype : str
        Dtype of unquantized tensors, see :func:`.cast_dtypes`. If None, dtypes are unchanged.
    tokenizer : bool
        Whether to convert the tokenizer of a GGUF file.
    base_model : str
        Name of the source on the Hub, OWNER/NAME, for the model card. If None, the name is known
        only for a source of the Hub.

    Returns the figures and warnings of all tensors. Raises :class:`.CheckpointError` if the
    checkpoint, a file or the output directory is unusable, and :class:`ValueError` for an invalid
    depth or for weights that are not finite.
    """
    half_range(depth)
    method = method or method_of(DEFAULT)
    source, out = open_source(source_path, tokenizer=tokenizer), Path(out_dir).absolute()
    base = base_of(source.path, base_model)
    if source.inputs.rotation and "calibration" in method.settings:
        raise CheckpointError(f"{source.path}: its matrices multiply rotated vectors, which a "
                              "calibration does not measure; quantize it without one")
    choice = source.choose(Selection(include, exclude, modules_to_not_convert, architecture))
    source = SlicedSource(unrotated(source, choice.matrices), choice.stacks)
    source, converted = _cast_kept(source, choice.matrices, dtype) if dtype else (source, {})
    notes = {"exclude": list(exclude)} if exclude else {}
    plan = Plan(source, choice.matrices, depth, kept=modules_to_not_convert, codec=method.codec,
                depths=_depths(source.path, choice.matrices, overrides or {}),
                marks=choice.marks(), notes=dict(method.settings) | notes | converted, base=base,
                layouts={name: Layout.of(method.grouping, tensor.shape[1])
                         for name, tensor in choice.matrices.items()})
    check_apart(source.path, out)

    keep_freed_memory()
    encoder = _MethodEncoder(method, plan.depth, plan.depths)
    with Job(out, _identity(plan, method), force=force) as job:
        reports = write_packed(job, plan, encoder, progress, run=run, engine=method.engine)
        job.finish()
    return PackReport(out, depth, reports, choice.reasons)


@dataclass(frozen=True)
class _MethodEncoder:
    """A :class:`.TensorEncoder` that quantizes by a method, at the depth of each module."""

    method: Method
    depth:  int
    depths: Mapping[str, int]

    def encode(
        self, module: str, tensor: SourceTensor,
    ) -> tuple[Encoded | DirectMatrix, WeightRows]:
        weights = weights_of(tensor)
        depth = self.depths.get(module, self.depth)
        return self.method.encode(weights, depth, tensor.name), weights

    def memory(self, tensor: SourceTensor) -> int:
        weights = 0 if isinstance(tensor, Tensor) else tensor.size
        return weights + int(self.method.memory * math.prod(tensor.shape))


def write_packed(
    job: Job, plan: Plan, encoder: TensorEncoder, progress: Progress | None = None, *,
    run: Run = one_by_one, engine: str | None = None,
) -> tuple[TensorReport, ...]:
    """Write all files of a packed checkpoint, and return the reports in file order.

    Tensors that an earlier run of the job finished are not written again.
    """
    write_weights(job, plan, encoder, progress, run=run, engine=engine)
    return write_others(job, plan)


def write_weights(
    job: Job, plan: Plan, encoder: TensorEncoder, progress: Progress | None = None, *,
    run: Run = one_by_one, engine: str | None = None,
) -> None:
    """Write the files of weights of a packed checkpoint."""
    def done(name: str) -> None:
        if progress:
            progress(_report(job, name))

    shards = []
    for file, shard in plan.source.shards.items():
        writer = plan.writer(file, job.partial)
        shards.append((writer, {
            name: TensorStep.of(plan, tensor, writer, encoder, engine)
            for name, tensor in shard.tensors.items()}))
    write_shards(job, shards, done, run)


def write_others(job: Job, plan: Plan) -> tuple[TensorReport, ...]:
    """Write all files except those of weights, and return the reports of tensors in file order."""
    write_json(job.partial / CONFIG, plan.config())
    if plan.source.sharded:
        write_json(job.partial / PACKED.index, plan.index())
    write_json(job.partial / PLAIN.index, REFUSAL_INDEX)
    plan.source.write_companions(job.partial)
    write_packed_card(job.partial, plan.config(), plan.source.path, plan.base)
    return tuple(_report(job, name) for name in plan.source.tensors)


def _report(job: Job, name: str) -> TensorReport:
    return understood(TensorReport.from_record, job.done[name], job.partial)


def _identity(plan: Plan, method: Method) -> dict:
    """Return all inputs that determine the bytes of the output."""
    return {"job": "pack", "format_version": plan.version, "codec": method.codec,
            "settings": dict(method.settings), "depth": plan.depth, "depths": plan.depths,
            "kept": plan.kept, "weights": PACKED.single, "files": plan.source.fingerprint(),
            "source": dict(plan.source.settings),
            "base_model": asdict(plan.base) if plan.base else None,
            } | ({"marks": plan.marks} if plan.marks else {})


def _cast_kept(
    source: Source, matrices: Mapping[str, SourceTensor], dtype: str,
) -> tuple[Source, dict[str, object]]:
    """Return the source with unquantized tensors converted, and a note for config.json."""
    packed = {tensor.name for tensor in matrices.values()}
    kept = {name: tensor for name, tensor in source.tensors.items() if name not in packed}
    dtypes = cast_dtypes(kept, dtype)
    if not dtypes:
        return source, {}
    return CastSource(source, dtypes), {CONVERTED: {name: kept[name].dtype for name in dtypes}}


def _depths(
    path: Path, matrices: Iterable[str], overrides: Mapping[str, int],
) -> dict[str, int]:
    """Return depths by module name, from depths by glob."""
    depths: dict[str, int] = {}
    for pattern, depth in overrides.items():
        half_range(depth)
        names = fnmatch.filter(matrices, pattern)
        if not names:
            raise CheckpointError(f"{path}: no matrix is named {pattern}, for which depth {depth} "
                                  "is requested; check the name")
        depths.update(dict.fromkeys(names, depth))
    return depths
