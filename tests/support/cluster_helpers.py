"""Dask cluster of processes on this machine, and matrices whose reading kills a worker."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed import Client

from tritstream.golden.quantizers.search import Coded, search

from support.golden_helpers import ROOT

__all__ = ["PATIENCE", "Deadly", "dask_cluster"]

#: Seconds after which a cluster does not start any more.
PATIENCE = 300


@contextmanager
def dask_cluster(folder, workers, nanny=False):
    """Address of a scheduler, and processes of its workers of one thread each; all end with it.

    A nanny restarts a worker that dies.
    """
    file = folder / "scheduler.json"
    processes = [start("scheduler", "--scheduler-file", file, "--port", 0, "--no-dashboard",
                       folder=folder)]
    try:
        for _ in range(workers):
            processes.append(start(
                "worker", "--scheduler-file", file, "--nthreads", 1, "--no-dashboard",
                "--nanny" if nanny else "--no-nanny", "--local-directory", folder,
                "--death-timeout", PATIENCE, folder=folder))
        address = address_in(file)
        with Client(address, timeout=PATIENCE) as client:
            client.wait_for_workers(workers, timeout=PATIENCE)
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            # A nanny that is killed would leave its worker behind.
            process.terminate() if nanny else process.kill()
            process.wait()


def start(kind, *arguments, folder):
    code = f"from distributed.cli.dask_{kind} import main; main()"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with (folder / f"{kind}.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=log,
                                stdout=log, cwd=folder, env={**os.environ, "PYTHONPATH": path})


def address_in(file):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            return json.loads(file.read_text())["address"]
        except (FileNotFoundError, ValueError):
            time.sleep(0.05)
    raise TimeoutError(file)


@dataclass(frozen=True)
class Deadly:
    """An encoder that is search, but kills its process at one tensor, the first ``times``.

    It does so half-way: with some rows of the matrix written, others not.
    """

    folder: Path
    name:   str
    times:  int = 1

    def __call__(self, weights, depth, name):
        matrix = search(weights, depth, name)
        return Mine(**vars(matrix), deadly=self) if name == self.name else matrix

    def strike(self):
        """Die, unless that was done as often as it should."""
        for number in range(self.times):
            try:
                (self.folder / f"died-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, eq=False)
class Mine(Coded):
    """The matrix of it."""

    deadly: Deadly = None

    def take_rows(self, chunk, groups=None):
        """Rows, of which the last are deadly."""
        if chunk.stop == self.shape[0]:
            time.sleep(0.2)
            self.deadly.strike()
        return super().take_rows(chunk, groups)
