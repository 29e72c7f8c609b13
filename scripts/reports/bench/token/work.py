"""Streams the matrices of a token through simulated devices, in several processes."""

import os
import time
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from threading import Thread
from typing import cast

from threadpoolctl import threadpool_limits

from tritstream.host.device import Device
from tritstream.host.layout.shapes import WeightForm
from tritstream.host.open_device import open_device
from tritstream.host.own_loop import OwnLoop
from tritstream.scripts.console import Failure
from tritstream.scripts.reports.bench.measuring import peak_bytes
from tritstream.scripts.reports.bench.token.weights import random_matrix
from tritstream.scripts.running.stream import Job, MatrixRun, generated_activations, stream_matrix

__all__ = ["Done", "Task", "run_tasks"]

#: Seconds between two looks of a process at whether the command still runs.
_LOOK = 1.0


@dataclass(frozen=True)
class Task:
    """A matrix to make, to stream and to compare.

    Members
    -------
    name : str
    shape : tuple
        Rows N and columns K.
    form : WeightForm
    seed : int
        Random seed of the weights.
    lanes : int
        Lanes of the simulated device.
    """

    name:  str
    shape: tuple[int, int]
    form:  WeightForm
    seed:  int
    lanes: int


@dataclass(frozen=True)
class Done:
    """Result of a task.

    Members
    -------
    run : MatrixRun
        Counts, times and the rows that differ from golden.
    process_cpu : float
        CPU seconds of the process for this task.
    peak : int
        Most bytes that the process has held in memory so far.
    """

    run:         MatrixRun
    process_cpu: float
    peak:        int

    @classmethod
    def of(cls, record: dict) -> "Done":
        """Reverse of :func:`dataclasses.asdict`."""
        return cls(**record | {"run": MatrixRun.of(record["run"])})


def run_tasks(tasks: list[Task], processes: int) -> Generator[Done, None, None]:
    """Yield results as tasks finish. Each process has a device of its own.

    Raises :class:`Failure` if a process dies.
    """
    if processes == 1:
        yield from map(_run, tasks)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (os.getpid(),)) as pool:
        try:
            for future in as_completed([pool.submit(_run, task) for task in tasks]):
                yield future.result()
        except BrokenProcessPool:
            raise Failure("a process died, perhaps for lack of memory; run the command again to "
                          "resume, with fewer --processes") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """End this process when its parent is gone. numpy computes in one thread per process."""
    threadpool_limits(1)
    Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


def _run(task: Task) -> Done:
    loop, device = _device(task.lanes)
    job = Job(task.name, task.shape, task.form.depth,
              lambda: random_matrix(task.name, task.shape, task.form, task.seed),
              lambda: generated_activations(task.seed, task.shape[1]), measures_error=False)
    began = time.process_time()
    run = loop.run(stream_matrix, device, job)
    return Done(run, time.process_time() - began, peak_bytes())


@cache
def _device(lanes: int) -> tuple[OwnLoop, Device]:
    """Return the device of this process, and the loop in which it is used."""
    return OwnLoop(), cast(Device, open_device(f"sim:lanes={lanes}"))
