"""Shared by all measurements: clocks, child processes, the machine and the command line."""

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
from tempfile import TemporaryFile

from tritstream.scripts.console import print_json, write_json

__all__ = ["Run", "circumstances", "cpu_seconds", "peak_bytes", "report_to", "run_measured"]


@dataclass(frozen=True)
class Run:
    """Finished process: exit status, wall and CPU seconds, peak resident bytes, error text.

    The peak is at least that of the process that started it, from which Linux counts.
    """

    status: int
    wall:   float
    cpu:    float
    peak:   int
    error:  str


def cpu_seconds(work: Callable[[], object], repeat: int) -> float:
    """Return the fewest CPU seconds of this thread for ``work``, after one uncounted run."""
    work()
    best = float("inf")
    for _ in range(repeat):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best


def peak_bytes() -> int:
    """Return the most bytes that this process has had in memory, mapped files included.

    ``ru_maxrss`` would count the process that started this one, too.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def run_measured(arguments: Sequence[str | Path]) -> Run:
    """Run ``tritstream`` with these arguments in a separate process."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "tritstream", *map(str, arguments)]
    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        error = errors.read()
    # Linux counts in kilobytes.
    return Run(process.returncode, time.perf_counter() - start, usage.ru_utime + usage.ru_stime,
               1024 * usage.ru_maxrss, error.strip())


def circumstances(packages: Sequence[str]) -> dict:
    """Return command line, processor, cores and versions as plain values."""
    return {"command": shlex.join(["tritstream", *sys.argv[1:]]), "processor": _processor(),
            "cores": os.cpu_count(), "python": platform.python_version(),
            "packages": {name: _version(name) for name in packages}}


def report_to(
    report: dict, output: Path | None, as_json: bool, show: Callable[[dict], None],
) -> None:
    """Write a report to ``output``, if given, and print it."""
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
