"""Results of a run, kept beside its report until that is written, so that a killed run goes on."""

from dataclasses import asdict
from pathlib import Path

from golden.journal import Journal, understood
from golden.writing import writing
from scripts.running.stream import MatrixRun

__all__ = ["RunResults"]


class RunResults:
    """Results by name of matrix; a context that lets go of the file they are kept in.

    Parameters
    ----------
    report : Path, optional
        The report to be; ``REPORT.partial`` has the results until it is written. Without one
        nothing is kept.
    """

    def __init__(self, report: Path | None = None):
        self._report = report
        self._journal: Journal | None = None
        self._runs: dict[str, MatrixRun] = {}

    def __enter__(self) -> "RunResults":
        return self

    def __exit__(self, *_) -> None:
        if self._journal:
            self._journal.close()

    def begin(self, settings: dict) -> None:
        """Take up what an earlier run of the same settings, plain values, has left.

        Raises :class:`ValueError` when what is there is of another run.
        """
        if not self._report:
            return
        path = self._report.with_name(f"{self._report.name}.partial")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(path)
        other = self._journal.lines and not self._journal.is_of(settings)
        if other or self._journal.is_foreign:
            raise ValueError(f"{path}: left by another run; remove it, or name another report")
        records = self._journal.begin(settings)
        self._runs = {name: understood(MatrixRun.of, record, path)
                      for name, record in records.items()}

    def get(self, name: str) -> MatrixRun | None:
        """What became of a matrix, if that is known."""
        return self._runs.get(name)

    def add(self, run: MatrixRun) -> None:
        """Keep the result of a matrix."""
        self._runs[run.name] = run
        if self._journal:
            self._journal.record(run.name, asdict(run))

    def discard(self) -> None:
        """Remove what was kept: the report is written."""
        if self._journal:
            self._journal.path.unlink()
