"""Steps of a job on a Dask cluster: several machines with the same files under the same paths.

Each worker writes its tensors into OUT.partial. Only the client process writes the journal. A step
that runs twice, for example because a worker was lost, writes the same bytes at the same offset.
"""

import hashlib
import pickle
import socket
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.cluster_client import connect
from tritstream.golden.jobs.directory_job import JOURNAL
from tritstream.golden.jobs.malloc import keep_freed_memory
from tritstream.golden.jobs.step import PlacedStep, Run, Step

__all__ = ["on_cluster"]

_ADVICE = "all machines of a cluster must have the same files under the same paths"


@dataclass(frozen=True)
class _Mark:
    """Data that must be equal on worker and client: first line of the journal, code digest."""

    journal: Path
    line:    bytes
    code:    str

    def check(self) -> None:
        """Raise :class:`CheckpointError` if the data of this process differ."""
        host = socket.gethostname()
        if not self.journal.is_file() or _first_line(self.journal) != self.line:
            raise CheckpointError(f"{self.journal.parent}: is not that of this job on {host}; "
                                  f"{_ADVICE}")
        if _code() != self.code:
            raise CheckpointError(f"{host}: has another version of tritstream; install the same on "
                                  "all machines of the cluster")


@contextmanager
def on_cluster(address: str) -> Iterator[Run]:
    """Provide a function that runs steps on the cluster with the scheduler at ``address``.

    ``address`` is for example ``tcp://HOST:8786``. The steps are picklable :class:`.PlacedStep`.
    Raises the errors of :func:`.connect`.
    """
    with connect(address) as client:
        yield partial(_run, client)


def _run(client: Any, steps: Mapping[str, Step]) -> Generator[tuple[str, dict], None, None]:
    """Run steps on the cluster; yield names and records as steps finish."""
    from distributed import CancelledError, KilledWorker, as_completed

    if not steps:
        return
    mark = _mark(steps)
    futures = {client.submit(_do, _pickled(name, step), mark, pure=False): name
               for name, step in steps.items()}
    for future in as_completed(futures):
        name = futures[future]
        try:
            record = future.result()
        except KilledWorker:
            raise CheckpointError(f"{name}: every worker that was given it died; give them more "
                                  "memory and run the same command again") from None
        except CancelledError:
            raise CheckpointError(f"{client.scheduler.address}: the scheduler was lost; start it "
                                  "and run the same command again") from None
        yield name, record


def _do(step: bytes, mark: _Mark) -> dict:
    """Run a pickled step on a worker."""
    mark.check()
    keep_freed_memory()
    try:
        return pickle.loads(step)()
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename}: not there on {socket.gethostname()}; "
                              f"{_ADVICE}") from None


def _pickled(name: str, step: Step) -> bytes:
    try:
        return pickle.dumps(step)
    except (TypeError, AttributeError, pickle.PicklingError):
        raise CheckpointError(f"{name}: cannot be sent to a cluster; convert the model to a "
                              "Hugging Face directory first") from None


def _mark(steps: Mapping[str, Step]) -> _Mark:
    target = next(target for step in steps.values() if isinstance(step, PlacedStep)
                  for target in step.places.values())
    journal = target.path.parent / JOURNAL
    return _Mark(journal, _first_line(journal), _code())


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()


@cache
def _code() -> str:
    """Return the SHA-256 of this package, whose code determines the bytes that are written."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()
