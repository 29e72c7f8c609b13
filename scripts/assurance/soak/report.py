"""Report of a soak: counts, the next job and the failures; written during the soak."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tritstream.golden.strict_json import parse_json
from tritstream.hw.tools.export import sources_digest
from tritstream.scripts.assurance.soak.draw import Job
from tritstream.scripts.assurance.soak.work import Outcome
from tritstream.scripts.console import write_json
from tritstream.sim.build import engine

__all__ = ["SoakReport"]

#: Seconds between two writes of the report, and number of failures it describes.
_EVERY, _LISTED = 3.0, 50
_COUNTS = ("jobs", "rows_compared", "answers_checked", "cycles", "words", "retries", "failed")


class SoakReport:
    """Counts and failures of a soak, in a JSON file from which a killed soak resumes.

    Parameters
    ----------
    path : Path
        File of the report; created if it does not exist.
    seed : int
    specs : sequence of str
        Specifications of the devices.

    Raises :class:`ValueError` if the file belongs to a soak with other options, or is not a report.
    """

    def __init__(self, path: Path, seed: int, specs: Sequence[str]):
        self._path, self._written = path, 0.0
        self.plain = self._read() or {
            "soak": {"seed": seed, "devices": list(specs)}, "engine": engine(), "rtl": [],
            "seconds": 0.0, "next": 0, "total": _zeros(), "kinds": {}, "devices": {},
            "products": {}, "faults": {}, "failures": [],
        }
        if self.plain["soak"] != {"seed": seed, "devices": list(specs)}:
            found = self.plain["soak"]
            raise ValueError(f"{path} is of a soak with --seed {found['seed']} on "
                             f"{' '.join(found['devices'])}: use these options, or write elsewhere")
        if sources_digest() not in self.plain["rtl"]:
            self.plain["rtl"].append(sources_digest())

    @property
    def next(self) -> int:
        """Number of the next job."""
        return self.plain["next"]

    @property
    def seconds(self) -> float:
        """Duration of all runs in seconds."""
        return self.plain["seconds"]

    def add(self, job: Job, outcome: Outcome, seconds: float) -> None:
        """Count a job and the seconds since the previous one."""
        plain, specs = self.plain, self.plain["soak"]["devices"]
        device = f"{len(job.devices)} devices"
        if len(job.devices) == 1:
            device = specs[job.devices[0]]
        for counts in (plain["total"], plain["kinds"].setdefault(job.kind, _zeros()),
                       plain["devices"].setdefault(device, _zeros())):
            for name, count in zip(_COUNTS, (
                    1, outcome.rows, outcome.answers, outcome.cycles, outcome.words,
                    outcome.retries, int(outcome.fault is not None)), strict=True):
                counts[name] += count
        _add(plain["faults"], outcome.faults)
        if job.kind != "frames":
            _add(plain["products"], job.traits())
        if outcome.fault and len(plain["failures"]) < _LISTED:
            plain["failures"].append({"job": asdict(job), "fault": outcome.fault})
        plain["next"] = job.number + 1
        plain["seconds"] = round(plain["seconds"] + seconds, 3)
        if time.monotonic() > self._written + _EVERY:
            self.write()

    def write(self) -> None:
        """Write the complete file."""
        write_json(self._path, self.plain)
        self._written = time.monotonic()

    def _read(self) -> dict | None:
        try:
            plain = parse_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._path}: cannot be read as a report of a soak ({error}); write "
                             "elsewhere") from None
        if not isinstance(plain, dict) or "soak" not in plain:
            raise ValueError(f"{self._path}: not a report of a soak; write elsewhere")
        return plain


def _zeros() -> dict[str, int]:
    return dict.fromkeys(_COUNTS, 0)


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for name, count in sorted(more.items()):
        counts[name] = counts.get(name, 0) + count
