"""An event loop for callers that cannot await."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

__all__ = ["LoopThread"]

_T = TypeVar("_T")


class LoopThread:
    """An event loop in a thread of its own, so that it runs inside notebooks too.

    Use it in a ``with`` statement: leaving waits for the step the loop is in.
    """

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="device", daemon=True)
        self._thread.start()

    def __enter__(self) -> "LoopThread":
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a coroutine and return its result; an interrupt cancels it."""
        try:
            return self._begin(coroutine).result()
        except KeyboardInterrupt:
            # It may have come before there was a future to cancel.
            self._begin(_cancel_others()).result()
            raise

    def _begin(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


async def _cancel_others() -> None:
    """Cancel every other task of the loop, and wait for their ends."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
