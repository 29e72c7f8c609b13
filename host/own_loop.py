"""Event loop for callers that cannot await."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock, current_thread, main_thread
from typing import Any, TypeVar

__all__ = ["OwnLoop"]

_T = TypeVar("_T")


class OwnLoop:
    """An event loop that runs while a caller waits for a coroutine, in the thread of the caller.

    A loop in a thread of its own would take more time for the change of threads than a device for
    a small product. Only for a caller that is inside another event loop, as in a notebook, it runs
    in a thread. Callers in several threads wait for each other.

    Use it in a ``with`` statement. Leaving closes the loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = Lock()

    def __enter__(self) -> "OwnLoop":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._loop.close()

    def run(self, work: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> _T:
        """Wait for ``work(*arguments)`` and return its result; an interrupt cancels it."""
        tasks: list[asyncio.Task[_T]] = []
        if not _inside_loop():
            return self._run(tasks, work, *arguments)
        with ThreadPoolExecutor(1, "device") as thread:
            try:
                return thread.submit(self._run, tasks, work, *arguments).result()
            except KeyboardInterrupt:
                # This waits until the loop runs, so the task exists by then.
                self._loop.call_soon_threadsafe(_cancel, tasks)
                # An executor that is interrupted while it starts a thread does not wait for it.
                with self._lock:
                    raise

    def _run(
        self, tasks: list[asyncio.Task[_T]], work: Callable[..., Coroutine[Any, Any, _T]],
        *arguments: Any,
    ) -> _T:
        """Wait for ``work(*arguments)``, whose task is added to ``tasks``."""
        with self._lock:
            task = self._loop.create_task(work(*arguments))
            tasks.append(task)
            try:
                with self._interrupts(task):
                    return self._loop.run_until_complete(task)
            finally:
                if not task.done():     # an interrupt that this class does not handle
                    task.cancel()
                    self._loop.run_until_complete(asyncio.wait(tasks))

    @contextmanager
    def _interrupts(self, task: asyncio.Task) -> Iterator[None]:
        """Let the first SIGINT cancel a task, and raise :class:`KeyboardInterrupt` afterwards.

        An exception in the middle of the loop's own code could lose a task. Another handler than
        that of Python is left alone.
        """
        if (current_thread() is not main_thread()
                or signal.getsignal(signal.SIGINT) is not signal.default_int_handler):
            yield
            return
        interrupted = False

        def interrupt(*_: object) -> None:
            nonlocal interrupted
            if interrupted:
                raise KeyboardInterrupt
            interrupted = True
            self._loop.call_soon_threadsafe(task.cancel)

        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if interrupted:
                raise KeyboardInterrupt from None


def _inside_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _cancel(tasks: list[asyncio.Task]) -> None:
    for task in tasks:
        task.cancel()
