"""Import of a checkpoint that holds dequantized weights: recovered, packed, compared."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.choice import BY_NAME, Architecture, Selection
from tritstream.golden.checkpoints.source import MODULES_TO_NOT_CONVERT, Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import half_range
from tritstream.golden.jobs.directory_job import Job, check_apart
from tritstream.golden.jobs.journal import understood
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.metadata import FORMAT_VERSION, RECOVERED, marks_of
from tritstream.golden.packed.pack import Encode, write_packed
from tritstream.golden.packed.plan import Plan, source_fingerprint
from tritstream.golden.packed.report import PackReport
from tritstream.golden.packed.verify import verify
from tritstream.golden.recover import DEPTHS, encode, ratios
from tritstream.golden.recover.survey import Survey, survey
from tritstream.golden.rounding import FORMS
from tritstream.golden.row_chunks import in_threads

__all__ = ["ImportReport", "import_checkpoint", "probe_checkpoint"]

#: Why a matrix is kept that ``keep_going`` left.
_MISFIT = "matrices that do not fit"

#: Gets what is being done, and the name of the tensor with which it has been.
Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class ImportReport:
    """What an import did: the packed tensors, the survey of each matrix, sums of the source."""

    packed:        PackReport
    surveys:       tuple[Survey, ...]
    source_sha256: dict[str, str]

    @property
    def misfits(self) -> tuple[Survey, ...]:
        """Matrices that were kept because they do not fit."""
        return tuple(survey for survey in self.surveys if not survey.fits)

    @property
    def negative_zeros(self) -> int:
        """Weights that were a negative zero and are a zero now."""
        return sum(survey.outcome.negative_zeros for survey in self.surveys if survey.fits)


def _silent(stage: str, name: str) -> None:
    pass


def import_checkpoint(
    source_path: str | Path, out_dir: str | Path, depth: int | None = None, *,
    keep_going: bool = False, force: bool = False, exclude: Sequence[str] = (),
    architecture: Architecture | None = None, progress: Progress = _silent,
) -> ImportReport:
    """Pack a checkpoint of dequantized weights such that all its values come back.

    Every matrix is recovered first, each at the least depth that fits; then all is packed as by
    :func:`.pack_checkpoint`; then the files are read back and compared with the
    source, value by value. After a kill the same call goes on. Memory is bounded by the largest
    matrices, of which as many as there are processors are held at a time.

    Parameters
    ----------
    source_path, out_dir : path
        The checkpoint, and the directory to make.
    depth : int
        Trits of a weight, if it is known.
    keep_going : bool
        Keep a matrix that does not fit as it is, and go on.
    force : bool
        Replace ``out_dir``, and discard what another job left in ``OUT.partial``.
    exclude, architecture
        As of :func:`tritstream.golden.packed.pack.pack_checkpoint`.
    progress : callable
        Gets ``recovering``, ``hashing``, ``packing`` or ``comparing``, and what has been: the name
        of each matrix, of each file, of each tensor, and again of each tensor.

    Raises :class:`CheckpointError` for a checkpoint, a file or a directory that does not do, or a
    matrix that does not fit; :class:`ValueError` for a wrong depth.
    """
    depths = _depths(depth)
    source, out = open_source(source_path), Path(out_dir).absolute()
    choice = source.choose(Selection(exclude=exclude, architecture=architecture))
    matrices = choice.matrices
    check_apart(source.path, out)
    with Job(out, _identity(source, depth, matrices), force=force) as job:
        surveys = _survey(job, matrices, depths, keep_going, progress)
        sums = _sums(source, progress)
        notes = {"source_sha256": sums} | ({"exclude": list(exclude)} if exclude else {})
        plan = _plan(source, matrices, surveys, notes)
        reports = write_packed(job, plan, _encoder(surveys),
                               lambda report: progress("packing", report.name))
        _compare(job.partial, source, progress)
        job.finish()
    misfits = {f"{one.name}.weight": _MISFIT for one in surveys.values() if not one.fits}
    packed = PackReport(out, plan.depth, reports, choice.reasons | misfits)
    return ImportReport(packed, tuple(surveys.values()), sums)


def probe_checkpoint(
    source_path: str | Path, depth: int | None = None, selection: Selection = BY_NAME,
) -> Iterator[tuple[Survey, list[tuple[float, float]]]]:
    """What an import would find of each matrix, and of a misfit its ratios; nothing is written."""
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
    """What decides every byte of the output, but which misfits are kept."""
    return {"job": "import", "format_version": FORMAT_VERSION, "depth": depth,
            "matrices": sorted(matrices), "files": source_fingerprint(source)}


def _survey(
    job: Job, matrices: dict[str, SourceTensor], depths: tuple[int, ...], keep_going: bool,
    progress: Progress,
) -> dict[str, Survey]:
    """Surveys by module name; those of an earlier run are in the journal."""
    done = {name: understood(Survey.from_record, job.done[_key(name)], job.partial)
            for name in matrices if _key(name) in job.done}
    surveys = {}
    with closing(survey(matrices, depths, done)) as found:
        for one in found:
            surveys[one.name] = one
            if one.name not in done:
                job.record(_key(one.name), one.record())
            if not one.fits and not keep_going:
                raise CheckpointError(f"{matrices[one.name].path}: {one.outcome.reason}; keep "
                                      "going to leave it as it is")
            progress("recovering", matrices[one.name].name)
    return surveys


def _key(name: str) -> str:
    """Name of a survey in the journal, where the names of tensors are of what is packed."""
    return f"recovered {name}"


def _sums(source: Source, progress: Progress) -> dict[str, str]:
    """SHA-256 of the files that all comes from, by name."""
    sums = {}
    paths = source.files()
    for path, digest in zip(paths, in_threads(_sha256, paths), strict=True):
        sums[path.name] = digest
        progress("hashing", path.name)
    return sums


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plan(
    source: Source, matrices: dict[str, SourceTensor], surveys: dict[str, Survey],
    notes: Mapping[str, object],
) -> Plan:
    """The depth of most weights for all, and for the others their own."""
    fitting = {name: found for name, found in surveys.items() if found.fits}
    if not fitting:
        raise CheckpointError(f"{source.path}: no matrix fits; quantize it instead")
    weights: Counter[int] = Counter()
    for found in fitting.values():
        weights[found.outcome.depth] += math.prod(found.shape)
    return Plan(
        source, {name: matrices[name] for name in fitting}, weights.most_common(1)[0][0],
        depths={name: found.outcome.depth for name, found in fitting.items()},
        kept=MODULES_TO_NOT_CONVERT, codec=RECOVERED, notes=notes,
        marks={name: marks_of(FORMS[found.outcome.form], found.dtype)
               for name, found in fitting.items()})


def _encoder(surveys: dict[str, Survey]) -> Encode:
    def encode_tensor(name: str, tensor: SourceTensor) -> tuple[TritMatrix, None]:
        found = surveys[name].outcome
        matrix = encode(tensor.read(), np.array(found.table, np.float32), found.depth,
                        FORMS[found.form], tensor.name)
        # Every value comes back, which is compared later on.
        return matrix, None
    return encode_tensor


def _compare(partial: Path, source: Source, progress: Progress) -> None:
    """Read all files back, and every value against the source."""
    findings = verify(partial, source.path, lambda name: progress("comparing", name))
    for finding in findings:
        if finding.kind == "error":
            raise CheckpointError(f"{partial}: {finding.tensor}: {finding.message}; check disk and "
                                  "memory, and remove it")
