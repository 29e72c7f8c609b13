"""Import of the files of a checkpoint one after the other: recover, pack, hash, compare, delete."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tritstream.golden.checkpoints.changed_source import OneFile, SlicedSource
from tritstream.golden.checkpoints.choice import Choice
from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.checkpoints.unrotated import unrotated
from tritstream.golden.checkpoints.weight_files import packed_name
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.jobs.journal import understood
from tritstream.golden.packed.card import BaseModel
from tritstream.golden.packed.pack import write_weights
from tritstream.golden.packed.plan import Plan
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import check
from tritstream.golden.recover import Recovery, Unfit
from tritstream.golden.recover.consuming import consume, is_consumed
from tritstream.golden.recover.import_plan import RecoveredEncoder, plan_of
from tritstream.golden.recover.survey import Stated, Survey, survey

__all__ = ["FileImport", "Progress", "sha256"]

#: Reason for matrices that stay unquantized because of ``keep_going``.
_MISFIT = "matrices that do not fit"

#: Called as ``progress(stage, name)`` after each item of a stage is finished.
Progress = Callable[[str, str], None]


@dataclass
class FileImport:
    """Import of the files of weights of a source, one after the other.

    All matrices are recovered before the first file is written, unless the files of the source come
    on demand. Each file is then packed, hashed, and compared with its source, so that the disk is
    read twice at most.

    Members
    -------
    job : Job
        Job that writes the output.
    source : Source
        Source checkpoint.
    choice : Choice
        Matrices to recover, and the other tensors.
    depths : tuple of int
        Depths to try.
    keep_going, consume : bool
        As for :func:`.import_checkpoint`.
    progress : callable
        As for :func:`.import_checkpoint`.
    surveys : dict
        Result for each matrix, by module name.
    sums : dict
        SHA-256 of each finished file, by file name.
    """

    job:        Job
    source:     Source
    choice:     Choice
    depths:     tuple[int, ...]
    keep_going: bool
    consume:    bool
    progress:   Progress
    surveys:    dict[str, Survey] = field(default_factory=dict)
    sums:       dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sliced = self._sliced(self.choice)
        self._files = {name: file for file, shard in sliced.shards.items()
                       for name in shard.tensors}

    def run(self) -> None:
        """Import all files. Files that an earlier run of the job finished are not read again."""
        fingerprint = self.source.fingerprint()
        if not self.source.on_demand:
            self._survey(self.choice.matrices)
            self._check_found()
        for file in self.source.shards:
            self._import(file)
            if self.consume:
                consume(self.job, self.source.path / file, fingerprint)
        self._check_found()

    def plan(
        self, notes: Mapping[str, object], base: BaseModel | None = None, file: str | None = None,
    ) -> Plan:
        """Return the plan of the output, or of one file of it, whose matrices are recovered."""
        choice = self._fitting()
        source: Source = self._sliced(choice)
        source = OneFile(source, file) if file else source
        matrices = {name: tensor for name, tensor in choice.matrices.items()
                    if tensor.name in source.tensors}
        return plan_of(source, matrices, self._outcomes(matrices), choice.marks(), notes, base)

    @property
    def consumed(self) -> tuple[str, ...]:
        """Files of weights that were deleted, by this run or by an earlier one."""
        return tuple(file for file in self.source.shards if is_consumed(self.job, file))

    def reasons(self) -> dict[str, str]:
        """Return the reasons for unquantized tensors, by tensor name."""
        return self._fitting().reasons

    def _fitting(self) -> Choice:
        """Return the choice without the matrices that were found not to fit."""
        return self.choice.without({one.name: _MISFIT for one in self.surveys.values()
                                    if not one.fits})

    def _check_found(self) -> None:
        if not self._fitting().matrices:
            raise CheckpointError(f"{self.source.path}: no matrix fits; quantize it instead")

    def _sliced(self, choice: Choice) -> Source:
        return SlicedSource(unrotated(self.source, choice.matrices), choice.stacks)

    def _outcomes(self, matrices: Iterable[str]) -> dict[str, Recovery | Stated]:
        found = {name: self.surveys[name].outcome for name in matrices}
        return {name: outcome for name, outcome in found.items()
                if isinstance(outcome, Recovery | Stated)}

    def _survey(self, matrices: Mapping[str, SourceTensor]) -> None:
        """Recover matrices; results of an earlier run are read from the journal."""
        job = self.job
        done = {name: understood(Survey.from_record, job.done[_recovered(name)], job.partial)
                for name in matrices if _recovered(name) in job.done}
        for file in {self._files[matrices[name].name] for name in matrices.keys() - done.keys()}:
            self.source.provide(file)
        first = self.surveys.get(next(iter(self.choice.matrices)))
        with closing(survey(matrices, self.depths, done, first)) as results:
            for one in results:
                self.surveys[one.name] = one
                if one.name not in done:
                    job.record(_recovered(one.name), one.record())
                if isinstance(one.outcome, Unfit) and not self.keep_going:
                    raise CheckpointError(f"{matrices[one.name].path}: {one.outcome.reason}; keep "
                                          "going to leave it as it is")
                self.progress("recovering", matrices[one.name].name)

    def _import(self, file: str) -> None:
        """Recover, pack, hash and compare the tensors of a file, unless an earlier run did."""
        job, key = self.job, f"compared {file}"
        self._survey(self._unknown(file))
        plan = self.plan({}, file=file)
        writer = plan.writer(file, job.partial)
        if not writer.whole:
            if is_consumed(job, file):
                raise CheckpointError(f"{writer.path}: missing or cut short, and {file} was "
                                      "deleted when it had been packed; restore one of them")
            job.forget([key])
        if key in job.done:
            for name in plan.source.tensors:
                self.progress("packing", name)
                self.progress("comparing", name)
        else:
            self.source.provide(file)
            digest = self._write(file, plan)
            self._compare(file, plan)
            job.record(key, {"sha256": digest})
        if digest := job.done[key]["sha256"]:
            self.sums[file] = str(digest)
            self.progress("hashing", file)

    def _unknown(self, file: str) -> dict[str, SourceTensor]:
        """Return the matrices of a file, and those merged with them, that are not recovered yet."""
        merged = self.choice.merged
        own = {name for name, tensor in self.choice.matrices.items()
               if self._files[tensor.name] == file}
        places = {merged[name] for name in own if name in merged}
        return {name: tensor for name, tensor in self.choice.matrices.items()
                if name not in self.surveys and (name in own or merged.get(name) in places)}

    def _write(self, file: str, plan: Plan) -> str | None:
        """Write the packed file, and return the SHA-256 of its source if that is a file."""
        path = self.source.path / file
        encoder = RecoveredEncoder(self._outcomes(plan.matrices))
        with ThreadPoolExecutor(1) as pool:
            digest = pool.submit(sha256, path) if path in self.source.files() else None
            write_weights(self.job, plan, encoder,
                          lambda report: self.progress("packing", report.name))
            return digest.result() if digest else None

    def _compare(self, file: str, plan: Plan) -> None:
        """Read a written file back, and compare every value with the source."""
        job, name = self.job, packed_name(file)
        part = PackedCheckpoint.of_shards(job.partial, plan.config(),
                                          {name: Shard(job.partial / name)}, plan.source.sharded)
        findings = check(part, OneFile(self.source, file),
                         progress=lambda name: self.progress("comparing", name))
        for finding in findings:
            if finding.kind == "error":
                job.forget([*plan.source.tensors, *map(_recovered, plan.matrices)])
                raise CheckpointError(f"{job.partial}: {finding.tensor}: {finding.message}; check "
                                      "disk and memory, and run the same command again")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recovered(name: str) -> str:
    """Return the key of a survey in the journal. Tensor names are the keys of packing steps."""
    return f"recovered {name}"
