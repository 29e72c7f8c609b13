"""Runs each target in its own process, kills it if it hangs, and collects its counts."""

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

__all__ = ["Counts", "fuzz_target", "happens_again"]

#: Seconds of wall time in which an input must end, and a process start.
_STUCK, _START = 60.0, 120.0
_LOOK = 0.2
_COVERED = re.compile(r"cov: (\d+)")


@dataclass
class Counts:
    """Outcomes of inputs.

    Members
    -------
    executions : int
        Inputs that were run.
    seconds : float
        Wall time.
    outcomes : Counter
        Number of inputs by outcome: ``read``, a documented error and its line, or a fault.
    faults : dict
        By fault: file of an input that triggers it, detail, and number of times.
    covered : int
        Branches of the readers that were executed, as counted by atheris; 0 without atheris.
    stops : int
        Processes that died on an input which does not reproduce the crash.
    """

    executions: int = 0
    seconds:    float = 0.0
    outcomes:   Counter[str] = field(default_factory=Counter)
    faults:     dict[str, dict] = field(default_factory=dict)
    covered:    int = 0
    stops:      int = 0

    def add(self, notes: dict) -> None:
        """Add the counts of a process."""
        self.executions += notes["executions"]
        self.outcomes.update(notes["outcomes"])
        for fault, found in notes["faults"].items():
            self.add_fault(fault, found["input"], found["detail"], found["times"])

    def add_fault(self, fault: str, path: str, detail: str = "", times: int = 1) -> None:
        """Count a fault and the input that triggers it."""
        found = self.faults.setdefault(fault, {"input": path, "detail": detail, "times": 0})
        found["times"] += times


def fuzz_target(
    engine: str, target: str, corpus: Path, seconds: float, seed: int, most: int | None = None,
) -> Counts:
    """Fuzz a target for ``seconds``. A new process is started after each fault that ends one.

    Raises :class:`ValueError` if a process ends before its first input.
    """
    counts, began, turn = Counts(), time.monotonic(), 0
    corpus.mkdir(parents=True, exist_ok=True)
    while (left := seconds - (time.monotonic() - began)) > 0.5:
        end = _fuzz_once(counts, engine, target, corpus, left, seed + turn, most)
        if end == "done":
            break
        turn += 1
        _keep_pending(counts, end, target, corpus)
    counts.seconds = time.monotonic() - began
    return counts


def _fuzz_once(counts: Counts, engine: str, target: str, corpus: Path, seconds: float, seed: int,
               most: int | None) -> str:
    """Fuzz in one process, add its counts, and return why it ended."""
    with tempfile.TemporaryDirectory(prefix="tritstream-fuzz-") as name:
        folder = Path(name)
        arguments = [engine, target, "--corpus", corpus, "--notes", folder / "notes.json",
                     "--folder", folder, "--seconds", seconds, "--seed", seed]
        arguments += [] if most is None else ["--most", most]
        end = _run_child(list(map(str, arguments)), folder, corpus, seconds)
        log, notes = (folder / "log").read_text(errors="replace"), folder / "notes.json"
        if end != "done":
            _pending(corpus).with_name(f"log-{time.time_ns()}").write_text(log)
        if notes.is_file():
            counts.add(json.loads(notes.read_text()))
        elif end == "done" or not _pending(corpus).is_file():
            last = (log.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"the process that fuzzes {target} failed: {last}")
    counts.covered = max([counts.covered, *map(int, _COVERED.findall(log))])
    return end


def _keep_pending(counts: Counts, end: str, target: str, corpus: Path) -> None:
    """Count the input at which a process died as a fault if it also ends a second process."""
    if not _pending(corpus).is_file():
        counts.stops += 1
        return
    data = _pending(corpus).read_bytes()
    _pending(corpus).unlink()
    if end in counts.faults:
        counts.faults[end]["times"] += 1
        return
    if not happens_again(target, data):
        counts.stops += 1
        return
    kept = _pending(corpus).with_name(f"{end.split(':')[0]}-{time.time_ns()}")
    kept.write_bytes(data)
    counts.add_fault(end, str(kept))


def happens_again(target: str, data: bytes) -> bool:
    """Return whether an input still triggers a fault of its target, in a new process."""
    with tempfile.TemporaryDirectory(prefix="tritstream-fuzz-") as folder:
        alone, counts = Path(folder), Counts()
        (alone / "input").write_bytes(data)
        try:
            end = _fuzz_once(counts, "random", target, alone, 1.0, 0, 0)
        except ValueError:
            return True
    return end != "done" or bool(counts.faults)


def _run_child(arguments: list[str], folder: Path, corpus: Path, seconds: float) -> str:
    """Run a process and return why it ended: ``done``, ``hang``, or how it died."""
    log = (folder / "log").open("wb")
    with log, subprocess.Popen(
            [sys.executable, "-m", "tritstream.scripts.assurance.fuzz.child", *arguments],
            stdout=log, stderr=log,
            cwd=Path(__file__).parents[3], env={**os.environ, "MALLOC_ARENA_MAX": "2"}) as child:
        try:
            return _wait(child, folder / "notes.json", corpus, seconds)
        finally:
            child.kill()


def _wait(child: subprocess.Popen, notes: Path, corpus: Path, seconds: float) -> str:
    began = moved = time.monotonic()
    seen = None
    while child.poll() is None:
        time.sleep(_LOOK)
        now, state = time.monotonic(), (_time_of(notes), _time_of(_pending(corpus)))
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


def _pending(corpus: Path) -> Path:
    """Return the path of the input that is being run."""
    return corpus / "faults" / "pending"


def _time_of(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
