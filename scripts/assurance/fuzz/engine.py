"""Engines, which generate inputs. Each target is fuzzed in its own process."""

import faulthandler
import hashlib
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tritstream.golden.atomic_write import atomic_write
from tritstream.scripts.assurance.fuzz.target import Target
from tritstream.scripts.assurance.fuzz.watch import Fault, Watch

__all__ = ["ENGINES", "Session", "guided_inputs", "random_inputs"]

#: Engines by name; atheris is an extra.
ENGINES = ("atheris", "random")
#: Greatest size of an input in bytes.
_MOST_BYTES = 1 << 16
#: Seconds between two writes of the counts.
_NOTE = 1.0
#: Seconds after which the stack of a slow input is logged.
_LATE = 40.0
#: Share of inputs that atheris mutates itself, without regard to their format.
_BLIND = 0.2


@dataclass
class Session:
    """Run inputs and count their outcomes.

    Members
    -------
    target : Target
        Parser that is fuzzed.
    corpus : Path
        Directory of inputs; inputs that cause a fault go to ``faults`` in it.
    folder : Path
        Directory for the files that the target reads.
    notes : Path
        Counts as JSON, written every second, so that they survive a killed process.
    outcomes : Counter
        Number of inputs by outcome.
    faults : dict
        Input file, details and number of occurrences, by kind of fault.
    """

    target:   Target
    corpus:   Path
    folder:   Path
    notes:    Path
    outcomes: Counter[str] = field(default_factory=Counter)
    faults:   dict[str, dict] = field(default_factory=dict)

    def __post_init__(self):
        self._faults = self.corpus / "faults"
        self._faults.mkdir(parents=True, exist_ok=True)
        # The current input remains here if it kills or blocks the process.
        self._pending = self._faults / "pending"
        self._watch = Watch(self.target, self.folder)
        self._begun = self._noted = time.monotonic()

    def run(self, data: bytes) -> str:
        """Run an input and return its outcome."""
        self._pending.write_bytes(data)
        # Logs the stacks of all threads before the process is killed as stuck.
        faulthandler.dump_traceback_later(_LATE, file=sys.__stderr__ or 2)
        try:
            outcome = self._watch.run(data)
        except Fault as fault:
            outcome = f"fault {fault.kind}"
            self._keep(fault, data)
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._pending.unlink()
        self.outcomes[outcome] += 1
        if time.monotonic() - self._noted > _NOTE:
            self.note()
        return outcome

    def note(self) -> None:
        """Write the counts."""
        self._noted = time.monotonic()
        counts = {"executions": self.outcomes.total(), "seconds": self._noted - self._begun,
                  "outcomes": dict(self.outcomes), "faults": self.faults}
        atomic_write(self.notes, json.dumps(counts).encode())

    def _keep(self, fault: Fault, data: bytes) -> None:
        path = self._faults / hashlib.sha256(data).hexdigest()[:16]
        found = self.faults.setdefault(
            fault.kind, {"input": str(path), "detail": fault.detail, "times": 0})
        if not found["times"]:
            path.write_bytes(data)
        found["times"] += 1


def random_inputs(session: Session, seed: int, seconds: float, most: int | None = None) -> None:
    """Run random changes of inputs; inputs with a new outcome are changed further.

    Ends after ``seconds``, or after ``most`` inputs.
    """
    rng, pool = Random(seed), _pool(session)
    outcomes = {session.run(data) for data in pool}
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end and (most is None or count < most):
        data = session.target.mutate(rng.choice(pool), rng)[:_MOST_BYTES]
        outcome = session.run(data)
        count += 1
        if outcome not in outcomes and not outcome.startswith("fault"):
            outcomes.add(outcome)
            pool.append(data)
            _store(session.corpus, data)
    session.note()


def guided_inputs(session: Session, seed: int, seconds: float) -> None:
    """Let atheris search for inputs with more coverage; ends the process after ``seconds``."""
    import atheris

    for data in session.target.seeds():
        _store(session.corpus, data)

    def change(data: bytes, size: int, number: int) -> bytes:
        rng = Random(number)
        if rng.random() < _BLIND:
            return atheris.Mutate(data, size)
        return session.target.mutate(bytes(data), rng)[:size]

    # Time is limited here, because atheris only counts whole seconds of wall time and ends at the
    # first fault.
    atheris.Setup(
        ["fuzz", f"-max_total_time={max(1, int(seconds))}", f"-seed={seed}", "-timeout=3600",
         "-rss_limit_mb=0", f"-max_len={_MOST_BYTES}", "-print_final_stats=1", "-close_fd_mask=1",
         f"-artifact_prefix={session.notes.parent}/",
         str(session.corpus)],
        lambda data: session.run(data) and None, custom_mutator=change)
    atheris.Fuzz()


def _pool(session: Session) -> list[bytes]:
    kept = [path.read_bytes() for path in sorted(session.corpus.iterdir()) if path.is_file()]
    return [*session.target.seeds(), *kept]


def _store(corpus: Path, data: bytes) -> None:
    # The names that atheris uses, so that both engines can use the same corpus.
    path = corpus / hashlib.sha1(data).hexdigest()
    if not path.exists():
        path.write_bytes(data)
