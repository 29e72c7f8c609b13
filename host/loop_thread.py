"""Event loop in a thread, for callers that cannot await."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import Any, TypeVar

__all__ = ["LoopThread"]

_T = TypeVar("_T")


class LoopThread:
    """An event loop in its own thread, so that it works inside notebooks too.

    Use it in a ``with`` statement. Leaving stops the loop after its current callback.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task] = set()
        self._thread = Thread(target=self._loop.run_forever, name="device", daemon=True)
        self._thread.start()

    def __enter__(self) -> "LoopThread":
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> _T:
        """Wait for ``work(*arguments)`` and return its result; an interrupt cancels it.

        The coroutine is created in the loop's thread, because an interrupt, which comes in the main
        thread, could otherwise come before there is a task to cancel.
        """
        try:
            return self._begin(work, *arguments).result()
        except KeyboardInterrupt:
            # The interrupt may have come before there was a future to cancel.
            self._begin(_cancel_others).result()
            raise

    def _begin(self, work: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> Future[_T]:
        done: Future[_T] = Future()
        self._loop.call_soon_threadsafe(self._start, done, work, *arguments)
        return done

    def _start(self, done: Future, work: Callable[..., Coroutine], *arguments: Any) -> None:
        try:
            task = self._loop.create_task(work(*arguments))
        except Exception as error:
            done.set_exception(error)
            return
        self._tasks.add(task)       # the loop itself keeps only a weak reference
        task.add_done_callback(partial(self._finish, done))

    def _finish(self, done: Future, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            done.cancel()
        elif error := task.exception():
            done.set_exception(error)
        else:
            done.set_result(task.result())


async def _cancel_others() -> None:
    """Cancel every other task of the loop, and wait until they have ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
