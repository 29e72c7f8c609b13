"""Lines of a token's matrices: kept in a file as they are finished, so that a command resumes."""

import time
from dataclasses import asdict
from pathlib import Path

from tritstream.golden.jobs.journal import Journal, understood
from tritstream.golden.write_errors import writing
from tritstream.scripts.reports.bench.token.work import Done
from tritstream.scripts.running.stream import MatrixRun

__all__ = ["Lines"]


class Lines:
    """Results by name of matrix, one JSON line each. Leaving the context closes the file.

    Parameters
    ----------
    report : Path, optional
        Path of the report. The lines are in the file with the ending ``.jsonl`` beside it. Without
        a report, nothing is kept.
    settings : dict
        Plain values that determine every result.

    Raises :class:`ValueError` if the file belongs to another token.

    Members
    -------
    done : dict of str to Done
        Results so far.
    seconds : float
        Time in which these results were made, over all runs of the command.
    """

    def __init__(self, report: Path | None, settings: dict):
        self.done: dict[str, Done] = {}
        self.seconds, self._before = 0.0, time.monotonic()
        self._journal: Journal | None = None
        if report:
            self._open(report.with_suffix(".jsonl"), settings)

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal:
            self._journal.close()

    @property
    def runs(self) -> list[MatrixRun]:
        """Counts and times of the matrices."""
        return [one.run for one in self.done.values()]

    def add(self, one: Done) -> None:
        """Keep the result of a matrix, and the time since the previous one."""
        now = time.monotonic()
        elapsed, self._before = now - self._before, now
        self.done[one.run.name] = one
        self.seconds += elapsed
        if self._journal:
            self._journal.record(one.run.name, asdict(one) | {"elapsed": elapsed})

    def _open(self, path: Path, settings: dict) -> None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(path)
        other = self._journal.lines and not self._journal.is_of(settings)
        if other or self._journal.is_foreign:
            self._journal.close()
            raise ValueError(f"{path}: of another token or another RTL; remove it, or name another "
                             "report")
        for name, record in self._journal.begin(settings).items():
            self.seconds += record.pop("elapsed", 0.0)
            self.done[name] = understood(Done.of, record, path)
