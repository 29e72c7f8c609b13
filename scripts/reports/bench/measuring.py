"""What measurements have in common: clocks, child processes, where and how they were made."""

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tritstream.scripts.console import print_json, write_json

__all__ = ["Run", "circumstances", "cpu_seconds", "report_to", "run_measured"]


@dataclass(frozen=True)
class Run:
    """A finished process: exit status, seconds of wall and CPU, bytes at most resident, text."""

    status: int
    wall:   float
    cpu:    float
    peak:   int
    error:  str


def cpu_seconds(work: Callable[[], object], repeat: int) -> float:
    """CPU seconds of this thread for ``work``, the least of several tries after a first."""
    work()
    best = float("inf")
    for _ in range(repeat):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best


def run_measured(arguments: Sequence[str | Path]) -> Run:
    """Run ``tritstream`` with these arguments in a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "tritstream.scripts.cli", *map(str, arguments)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with process.stderr:
        error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # Linux counts in kilobytes.
    return Run(process.returncode, time.perf_counter() - start, usage.ru_utime + usage.ru_stime,
               1024 * usage.ru_maxrss, error.strip())


def circumstances(packages: Sequence[str]) -> dict:
    """Command line, processor, cores and versions, as JSON can hold them."""
    return {"command": shlex.join(["tritstream", *sys.argv[1:]]), "processor": _processor(),
            "cores": os.cpu_count(), "python": platform.python_version(),
            "packages": {name: _version(name) for name in packages}}


def report_to(
    report: dict, output: Path | None, as_json: bool, show: Callable[[dict], None],
) -> None:
    """Write a report where it was asked for, and print it."""
    if output:
        write_json(output, report)
    if as_json:
        print_json(report)
    else:
        show(report)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
