"""A process for each target, killed when it is stuck: what it counted."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Counts", "fuzz_target"]

#: Seconds of wall time in which an input must end, and a process start.
_STUCK, _START = 60.0, 120.0
_LOOK = 0.2
_COVERED = re.compile(r"cov: (\d+)")


@dataclass
class Counts:
    """What became of inputs.

    Members
    -------
    executions : int
        Inputs that were run.
    seconds : float
        Wall time.
    outcomes : Counter
        Inputs by what became of them: ``read``, a documented error and its line, a fault.
    faults : dict
        By what happened: file of the input, more of it, how often.
    covered : int
        Branches of the readers that were taken, as atheris counts them; 0 without it.
    """

    executions: int = 0
    seconds:    float = 0.0
    outcomes:   Counter[str] = field(default_factory=Counter)
    faults:     dict[str, dict] = field(default_factory=dict)
    covered:    int = 0

    def add(self, notes: dict) -> None:
        """Take what a process noted."""
        self.executions += notes["executions"]
        self.outcomes.update(notes["outcomes"])
        for fault, found in notes["faults"].items():
            self.add_fault(fault, found["input"], found["detail"], found["times"])

    def add_fault(self, fault: str, path: str, detail: str = "", times: int = 1) -> None:
        """A fault, and an input that brings it about."""
        found = self.faults.setdefault(fault, {"input": path, "detail": detail, "times": 0})
        found["times"] += times


def fuzz_target(
    engine: str, target: str, corpus: Path, seconds: float, seed: int, most: int | None = None,
) -> Counts:
    """Fuzz a target for some seconds, in as many processes as its faults take.

    Raises :class:`ValueError` when a process does not get as far as its first input.
    """
    counts, began, turn = Counts(), time.monotonic(), 0
    corpus.mkdir(parents=True, exist_ok=True)
    while (left := seconds - (time.monotonic() - began)) > 0.5:
        with tempfile.TemporaryDirectory(prefix="tritstream-fuzz-") as folder:
            arguments = [engine, target, "--corpus", corpus, "--notes", f"{folder}/notes.json",
                         "--folder", folder, "--seconds", left, "--seed", seed + turn]
            arguments += [] if most is None else ["--most", most]
            end = _run_child(list(map(str, arguments)), Path(folder), corpus, left)
            ended = _take(counts, end, Path(folder), corpus)
        turn += 1
        if ended:
            break
    counts.seconds = time.monotonic() - began
    return counts


def _run_child(arguments: list[str], folder: Path, corpus: Path, seconds: float) -> str:
    """Run a process to its end; why it ended: ``done``, ``hang``, or how it died."""
    log = (folder / "log").open("wb")
    with log, subprocess.Popen(
            [sys.executable, "-m", "scripts.fuzz.child", *arguments], stdout=log, stderr=log,
            cwd=Path(__file__).parents[2], env={**os.environ, "MALLOC_ARENA_MAX": "2"}) as child:
        try:
            return _wait(child, folder / "notes.json", corpus, seconds)
        finally:
            child.kill()


def _wait(child: subprocess.Popen, notes: Path, corpus: Path, seconds: float) -> str:
    began = moved = time.monotonic()
    seen = None
    while child.poll() is None:
        time.sleep(_LOOK)
        now, state = time.monotonic(), (_time_of(notes), _time_of(corpus / "faults" / "pending"))
        if state != seen:
            seen, moved = state, now
        if now - moved > (_STUCK if any(state) else _START):
            return "hang: killed"
        if now - began > seconds + _START + _STUCK:
            return "done"
    if child.returncode == 0:
        return "done"
    return (f"died: {signal.Signals(-child.returncode).name}" if child.returncode < 0
            else f"ended: exit code {child.returncode}")


def _take(counts: Counts, end: str, folder: Path, corpus: Path) -> bool:
    """Take what a process noted, and the input that ended it; whether it ended by itself."""
    notes, pending = folder / "notes.json", corpus / "faults" / "pending"
    log = (folder / "log").read_text(errors="replace")
    if notes.is_file():
        counts.add(json.loads(notes.read_text()))
    elif end == "done" or not pending.is_file():
        last = (log.strip().splitlines() or ["it said nothing"])[-1]
        raise ValueError(f"fuzzing did not start: {last}")
    counts.covered = max([counts.covered, *map(int, _COVERED.findall(log))])
    if end == "done":
        return True
    if pending.is_file() and end not in counts.faults:
        kept = pending.with_name(f"{end.split(':')[0]}-{time.time_ns()}")
        pending.replace(kept)
        counts.add_fault(end, str(kept))
    elif end in counts.faults:
        counts.faults[end]["times"] += 1
        pending.unlink(missing_ok=True)
    return False


def _time_of(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
