"""Files of a source that an import deletes when their contents are packed, and their records."""

import os
from collections.abc import Mapping
from pathlib import Path

from tritstream.golden.atomic_write import sync
from tritstream.golden.checkpoints.safetensors_reader import GoneFile, Tensor
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import CONSUMED, Job, recorded
from tritstream.golden.jobs.journal import understood
from tritstream.golden.write_errors import writing

__all__ = ["check_consumable", "consume", "gone_files", "is_consumed"]


def gone_files(source: Path, out: Path) -> dict[str, GoneFile]:
    """Return the files that an unfinished import to ``out`` deleted from a source, by name.

    A file that the import was about to delete is one of them, because its contents are packed.
    """
    found = {}
    for key, record in recorded(out).items():
        if record.get(CONSUMED):
            file = key.removeprefix(f"{CONSUMED} ")
            gone, path = understood(_gone, record, out), source / file
            if not path.exists() or gone.is_state_of(path):
                found[file] = gone
    return found


def is_consumed(job: Job, file: str) -> bool:
    """Return whether a job deleted a file, or is about to delete it."""
    return _key(file) in job.done


def check_consumable(source: Source) -> None:
    """Raise :class:`CheckpointError` if files of a source must not be deleted one by one."""
    for file, shard in source.shards.items():
        path = source.path / file
        if not all(isinstance(tensor, Tensor) and tensor.path == path
                   for tensor in shard.tensors.values()):
            raise CheckpointError(f"{source.path}: its files depend on each other, or are not "
                                  "safetensors, so none can be consumed; import it without")
        if path.is_symlink():
            raise CheckpointError(f"{path}: is a link, and to consume it would not free its bytes; "
                                  "give a directory with the files themselves, or import it "
                                  "without")
    if not os.access(source.path, os.W_OK):
        raise CheckpointError(f"{source.path}: its files cannot be deleted; allow it, or import it "
                              "without consuming them")


def consume(job: Job, path: Path, fingerprint: Mapping[str, list[int]]) -> None:
    """Delete a file of weights whose contents are in the output, and compared.

    First the output and the record with the file's header are on the disk, so that the job resumes
    after a kill at any point. A file that has changed since ``fingerprint`` was taken is not
    deleted: raises :class:`CheckpointError`.
    """
    if is_consumed(job, path.name):
        gone = understood(_gone, job.done[_key(path.name)], job.partial)
        if not path.exists():
            return
    else:
        gone = GoneFile.of(path)
        if fingerprint.get(path.name, list(gone.state)) != list(gone.state):
            raise CheckpointError(f"{path}: has changed while it was imported; remove "
                                  f"{job.partial}, and import it again")
        for directory in (job.partial, job.partial.parent):
            with writing(directory):
                sync(directory)
        job.record(_key(path.name), {CONSUMED: True, "header": gone.header,
                                     "state": list(gone.state)})
    if gone.is_state_of(path):
        with writing(path):
            path.unlink()


def _key(file: str) -> str:
    return f"{CONSUMED} {file}"


def _gone(record: dict) -> GoneFile:
    size, modified = map(int, record["state"])
    return GoneFile(str(record["header"]), (size, modified))
