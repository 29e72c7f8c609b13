"""Import of a checkpoint of dequantized weights: recover integers and scales, pack, compare."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tritstream.golden.checkpoints.choice import BY_NAME, Architecture, Selection
from tritstream.golden.checkpoints.hub import local_model
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.weight_files import PACKED
from tritstream.golden.fixed_point import half_range
from tritstream.golden.gguf.i2s_order import I2S_ORDER, I2S_ORDERS
from tritstream.golden.jobs.directory_job import Job, check_apart
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.card import base_of
from tritstream.golden.packed.metadata import FORMAT_VERSION
from tritstream.golden.packed.pack import write_others
from tritstream.golden.packed.report import PackReport
from tritstream.golden.recover import DEPTHS, Recovery, ratios
from tritstream.golden.recover.consuming import check_consumable, gone_files
from tritstream.golden.recover.import_files import FileImport, Progress, sha256
from tritstream.golden.recover.survey import Stated, Survey, survey
from tritstream.golden.row_chunks import in_threads

__all__ = ["ImportReport", "import_checkpoint", "open_unfinished", "probe_checkpoint"]


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
    consumed : tuple of str
        Names of the source files that were deleted.
    """

    packed:        PackReport
    surveys:       tuple[Survey, ...]
    source_sha256: dict[str, str]
    consumed:      tuple[str, ...] = ()

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


def open_unfinished(
    source_path: str | Path, out_dir: str | Path, i2s_order: str = I2S_ORDERS[0],
) -> Source:
    """Return a checkpoint to import, also if an import that was interrupted deleted files of it.

    ``out_dir`` is the directory that the import writes. See :func:`.open_source` for the errors.
    """
    path = local_model(source_path)
    gone = gone_files(path, Path(out_dir).absolute())
    return open_source(path, i2s_order=i2s_order, gone=gone)


def import_checkpoint(
    source: str | Path | Source, out_dir: str | Path, depth: int | None = None, *,
    keep_going: bool = False, consume: bool = False, force: bool = False,
    exclude: Sequence[str] = (), architecture: Architecture | None = None,
    progress: Progress = _silent, base_model: str | None = None, i2s_order: str = I2S_ORDERS[0],
) -> ImportReport:
    """Pack a checkpoint of dequantized weights without changing a value.

    First every matrix is recovered, at the smallest depth that reproduces it. A matrix of a format
    for ternary models keeps the groups and the scales of its source. Then the tensors of each file
    are packed as by :func:`.pack_checkpoint`, read back, and compared with the source. After an
    interruption, the same call resumes. Memory is limited to the largest matrices, one per
    processor.

    Parameters
    ----------
    source : path or Source
        Source checkpoint: a path, or the result of :func:`open_unfinished`.
    out_dir : path
        Directory to create.
    depth : int
        Trits per weight, if known.
    keep_going : bool
        Whether to keep matrices that do not fit unquantized. Otherwise they raise an error.
    consume : bool
        Whether to delete each file of weights of the source when its tensors were compared and are
        on the disk. All matrices are recovered before the first file is deleted, unless the files
        of the source come on demand.
    force : bool
        Whether to replace ``out_dir``, and to discard what another job left in ``OUT.partial``.
        Never discards the only copy of files that were consumed.
    exclude, architecture, base_model
        As for :func:`.pack_checkpoint`.
    i2s_order : str
        Order of weights in matrices of the GGUF type I2_S, one of :data:`.I2S_ORDERS`.
    progress : callable
        Called with the stage and the finished item: ``recovering`` (matrix), ``hashing`` (file),
        ``packing`` and ``comparing`` (tensor).

    Raises :class:`.CheckpointError` if the checkpoint, a file or the output directory is unusable,
    if a matrix does not fit, or if the files of the source cannot be consumed. Raises
    :class:`ValueError` for an invalid depth.
    """
    depths, out = _depths(depth), Path(out_dir).absolute()
    if not isinstance(source, Source):
        source = open_unfinished(source, out, i2s_order)
    base = base_of(source.path, base_model)
    choice = source.choose(Selection(exclude=exclude, architecture=architecture))
    check_apart(source.path, out)
    if consume:
        check_consumable(source)
    identity = _identity(source, depth, choice.matrices) | {
        "base_model": asdict(base) if base else None}
    with Job(out, identity, force=force) as job:
        files = FileImport(job, source, choice, depths, keep_going, consume, progress)
        files.run()
        sums = _sums(source, progress) | files.sums
        notes: dict[str, object] = {"source_sha256": sums}
        notes |= {"exclude": list(exclude)} if exclude else {}
        notes |= {I2S_ORDER: i2s_order} if i2s_order != I2S_ORDERS[0] else {}
        plan = files.plan(notes, base)
        reports = write_others(job, plan)
        job.finish()
    packed = PackReport(out, plan.depth, reports, files.reasons())
    return ImportReport(packed, tuple(files.surveys.values()), sums, files.consumed)


def probe_checkpoint(
    source_path: str | Path, depth: int | None = None, selection: Selection = BY_NAME,
    i2s_order: str = I2S_ORDERS[0],
) -> Iterator[tuple[Survey, list[tuple[float, float]]]]:
    """Yield what an import would find: each matrix, with the scale ratios of a misfit."""
    depths, source = _depths(depth), open_source(source_path, i2s_order=i2s_order)
    matrices = source.choose(selection).matrices
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
            "files": source.fingerprint(), "source": dict(source.settings)}


def _sums(source: Source, progress: Progress) -> dict[str, str]:
    """Return the SHA-256 of each source file except those of weights, by file name."""
    sums = {}
    paths = [path for path in source.files() if path.name not in source.shards]
    for path, digest in zip(paths, in_threads(sha256, paths), strict=True):
        sums[path.name] = digest
        progress("hashing", path.name)
    return sums


def _fitting(surveys: Iterable[Survey]) -> dict[str, Recovery | Stated]:
    """Return the matrices to pack by module name."""
    return {one.name: one.outcome for one in surveys if isinstance(one.outcome, Recovery | Stated)}
