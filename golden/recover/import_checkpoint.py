"""Import of a checkpoint of dequantized weights: recover integers and scales, pack, compare."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.changed_source import SlicedSource
from tritstream.golden.checkpoints.choice import BY_NAME, Architecture, Choice, Selection
from tritstream.golden.checkpoints.source import MODULES_TO_NOT_CONVERT, Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor, Ternary
from tritstream.golden.checkpoints.weight_files import PACKED
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import half_range
from tritstream.golden.jobs.directory_job import Job, check_apart
from tritstream.golden.jobs.journal import understood
from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.card import BaseModel, base_of
from tritstream.golden.packed.metadata import FORMAT_VERSION, RECOVERED, marks_of
from tritstream.golden.packed.pack import write_packed
from tritstream.golden.packed.plan import Plan, source_fingerprint
from tritstream.golden.packed.report import PackReport
from tritstream.golden.packed.verify import verify
from tritstream.golden.recover import DEPTHS, Recovery, Unfit, encode, ratios
from tritstream.golden.recover.survey import Stated, Survey, survey
from tritstream.golden.rounding import FORMS
from tritstream.golden.row_chunks import in_threads

__all__ = ["ImportReport", "import_checkpoint", "probe_checkpoint"]

#: Reason for matrices that stay unquantized because of ``keep_going``.
_MISFIT = "matrices that do not fit"

#: Bytes per weight held in addition to the weights: integers, codes, and tiles to be written.
_BYTES_PER_WEIGHT = 2

#: Called as ``progress(stage, name)`` after each item of a stage is finished.
Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class ImportReport:
    """Result of an import.

    Members
    -------
    packed : PackReport
        Figures of all tensors.
    surveys : tuple of Survey
        Result of the recovery of each matrix.
    source_sha256 : dict
        SHA-256 of each source file, by file name.
    """

    packed:        PackReport
    surveys:       tuple[Survey, ...]
    source_sha256: dict[str, str]

    @property
    def misfits(self) -> tuple[Survey, ...]:
        """Matrices that stay unquantized because they do not fit."""
        return tuple(survey for survey in self.surveys if not survey.fits)

    @property
    def negative_zeros(self) -> int:
        """Number of weights that were a negative zero in the source and are zero now."""
        fitting = _fitting(self.surveys)
        return sum(recovery.negative_zeros for recovery in fitting.values())


def _silent(stage: str, name: str) -> None:
    pass


def import_checkpoint(
    source_path: str | Path, out_dir: str | Path, depth: int | None = None, *,
    keep_going: bool = False, force: bool = False, exclude: Sequence[str] = (),
    architecture: Architecture | None = None, progress: Progress = _silent,
    base_model: str | None = None,
) -> ImportReport:
    """Pack a checkpoint of dequantized weights without changing a value.

    First every matrix is recovered, at the smallest depth that reproduces it. A matrix of a format
    for ternary models keeps the groups and the scales of its source. Then the checkpoint
    is packed as by :func:`.pack_checkpoint`. Finally the files are read back and all values are
    compared with the source. After an interruption, the same call resumes. Memory is limited to the
    largest matrices, one per processor.

    Parameters
    ----------
    source_path, out_dir : path
        Source checkpoint, and directory to create.
    depth : int
        Trits per weight, if known.
    keep_going : bool
        Whether to keep matrices that do not fit unquantized. Otherwise they raise an error.
    force : bool
        Whether to replace ``out_dir``, and to discard what another job left in ``OUT.partial``.
    exclude, architecture, base_model
        As for :func:`.pack_checkpoint`.
    progress : callable
        Called with the stage and the finished item: ``recovering`` (matrix), ``hashing`` (file),
        ``packing`` and ``comparing`` (tensor).

    Raises :class:`CheckpointError` if the checkpoint, a file or the output directory is unusable,
    or if a matrix does not fit. Raises :class:`ValueError` for an invalid depth.
    """
    depths = _depths(depth)
    source, out = open_source(source_path), Path(out_dir).absolute()
    base = base_of(source.path, base_model)
    choice = source.choose(Selection(exclude=exclude, architecture=architecture))
    matrices = choice.matrices
    check_apart(source.path, out)
    identity = _identity(source, depth, matrices) | {"base_model": asdict(base) if base else None}
    with Job(out, identity, force=force) as job:
        surveys = _survey(job, matrices, depths, keep_going, progress)
        choice = choice.without({one.name: _MISFIT for one in surveys if not one.fits})
        fitting = {name: recovery for name, recovery in _fitting(surveys).items()
                   if name in choice.matrices}
        sums = _sums(source, progress)
        notes = {"source_sha256": sums} | ({"exclude": list(exclude)} if exclude else {})
        plan = _plan(source, choice, fitting, notes, base)
        reports = write_packed(job, plan, _RecoveredEncoder(fitting),
                               lambda report: progress("packing", report.name))
        _compare(job.partial, source, progress)
        job.finish()
    packed = PackReport(out, plan.depth, reports, choice.reasons)
    return ImportReport(packed, tuple(surveys), sums)


def probe_checkpoint(
    source_path: str | Path, depth: int | None = None, selection: Selection = BY_NAME,
) -> Iterator[tuple[Survey, list[tuple[float, float]]]]:
    """Yield what an import would find: each matrix, with the scale ratios of a misfit."""
    depths, matrices = _depths(depth), open_source(source_path).choose(selection).matrices
    for found in survey(matrices, depths, {}):
        ask = not found.fits and found.outcome.distinct
        yield found, ratios(matrices[found.name].read()) if ask else []


def _depths(depth: int | None) -> tuple[int, ...]:
    if depth is None:
        return DEPTHS
    half_range(depth)
    return (depth,)


def _identity(source: Source, depth: int | None, matrices: Iterable[str]) -> dict:
    """Return all inputs that determine the bytes of the output, except which misfits are kept."""
    return {"job": "import", "format_version": FORMAT_VERSION, "depth": depth,
            "weights": PACKED.single, "matrices": sorted(matrices),
            "files": source_fingerprint(source)}


def _survey(
    job: Job, matrices: dict[str, SourceTensor], depths: tuple[int, ...], keep_going: bool,
    progress: Progress,
) -> list[Survey]:
    """Recover all matrices; results of an earlier run are read from the journal."""
    done = {name: understood(Survey.from_record, job.done[_key(name)], job.partial)
            for name in matrices if _key(name) in job.done}
    surveys = []
    with closing(survey(matrices, depths, done)) as results:
        for one in results:
            surveys.append(one)
            if one.name not in done:
                job.record(_key(one.name), one.record())
            if isinstance(one.outcome, Unfit) and not keep_going:
                raise CheckpointError(f"{matrices[one.name].path}: {one.outcome.reason}; keep "
                                      "going to leave it as it is")
            progress("recovering", matrices[one.name].name)
    return surveys


def _key(name: str) -> str:
    """Return the key of a survey in the journal. Tensor names are the keys of packing steps."""
    return f"recovered {name}"


def _sums(source: Source, progress: Progress) -> dict[str, str]:
    """Return the SHA-256 of each source file, by file name."""
    sums = {}
    paths = source.files()
    for path, digest in zip(paths, in_threads(_sha256, paths), strict=True):
        sums[path.name] = digest
        progress("hashing", path.name)
    return sums


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fitting(surveys: Iterable[Survey]) -> dict[str, Recovery | Stated]:
    """Return the matrices to pack by module name."""
    return {one.name: one.outcome for one in surveys if isinstance(one.outcome, Recovery | Stated)}


def _plan(
    source: Source, choice: Choice, fitting: dict[str, Recovery | Stated],
    notes: Mapping[str, object], base: BaseModel | None,
) -> Plan:
    """Return a plan with the depth of most weights as default, and other depths as exceptions."""
    if not fitting:
        raise CheckpointError(f"{source.path}: no matrix fits; quantize it instead")
    matrices, slices = choice.matrices, choice.marks()
    weights: Counter[int] = Counter()
    for name, recovery in fitting.items():
        weights[recovery.depth] += math.prod(matrices[name].shape)
    return Plan(
        SlicedSource(source, choice.stacks), matrices, weights.most_common(1)[0][0],
        depths={name: recovery.depth for name, recovery in fitting.items()},
        kept=MODULES_TO_NOT_CONVERT, codec=RECOVERED, notes=notes, base=base,
        marks={name: marks_of(FORMS[recovery.form], matrices[name].dtype) | slices.get(name, {})
               for name, recovery in fitting.items()},
        layouts={name: found.layout for name, found in fitting.items()
                 if isinstance(found, Stated)})


@dataclass(frozen=True)
class _RecoveredEncoder:
    """A :class:`.TensorEncoder` that encodes by recovered tables; ``fitting`` is by module name."""

    fitting: Mapping[str, Recovery | Stated]

    def encode(
        self, module: str, tensor: SourceTensor,
    ) -> tuple[TritMatrix | DirectMatrix, None]:
        recovery = self.fitting[module]
        if isinstance(recovery, Stated):
            stated = tensor.ternary() if isinstance(tensor, Ternary) else None
            if stated is None:
                raise CheckpointError(f"{tensor.path}: {tensor.name} has changed; import it again")
            return stated, None
        table = np.array(recovery.table, np.float32)
        matrix = encode(tensor.read(), table, recovery.depth, FORMS[recovery.form], tensor.name)
        # No weights to measure an error against: the matrix represents its source exactly.
        return matrix, None

    def memory(self, tensor: SourceTensor) -> int:
        return tensor.size + _BYTES_PER_WEIGHT * math.prod(tensor.shape)


def _compare(partial: Path, source: Source, progress: Progress) -> None:
    """Read all files back, and compare every value with the source."""
    findings = verify(partial, source.path, lambda name: progress("comparing", name))
    for finding in findings:
        if finding.kind == "error":
            raise CheckpointError(f"{partial}: {finding.tensor}: {finding.message}; check disk and "
                                  "memory, and remove it")
