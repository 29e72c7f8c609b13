"""Transport that runs a blocking transport in a worker thread."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tritstream.host.transports.base import Stored, Transport

__all__ = ["ThreadTransport"]


_T = TypeVar("_T")


class ThreadTransport(Transport):
    """Transport through an inner one whose methods compute and never wait for an event loop.

    Other tasks of asyncio run while a response is awaited, so several devices work at the same
    time. A cancelled call continues in the thread, and the next call gets the bytes that it
    receives. The capabilities are those of the inner transport.

    Parameters
    ----------
    transport : Transport
        Inner transport, used only by the thread from now on, and closed with this one.
    """

    def __init__(self, transport: Transport):
        self._transport = transport
        self._requests: deque[bytes | memoryview | Stored] = deque()
        self._answers = bytearray()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self.flow_control = transport.flow_control
        self.fold_words = transport.fold_words
        self.about = transport.about

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Keep ``data`` until a response is awaited: :meth:`.Transport.send`."""
        self._requests.append(data)

    async def recv(self, count: int) -> bytes:
        """Wait for the thread: :meth:`.Transport.recv`. Also raises the errors of `send`."""
        if self._requests or len(self._answers) < count:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._fetch, count)
        data = bytes(self._answers[:count])
        del self._answers[:count]
        return data

    def ready(self) -> bytes:
        """Return response bytes that the thread has received: :meth:`.Transport.ready`."""
        # A cancelled call may still append in the thread: only what is copied here is removed.
        data = bytes(self._answers)
        del self._answers[:len(data)]
        return data

    def close(self) -> None:
        """Wait until the thread is idle, then close the inner transport."""
        self._thread.shutdown()
        self._transport.close()

    def _fetch(self, count: int) -> None:
        while self._requests:
            _result(self._transport.send(self._requests.popleft()))
        if len(self._answers) < count:
            self._answers += _result(self._transport.recv(count - len(self._answers)))
            self._answers += self._transport.ready()


def _result(coroutine: Coroutine[object, None, _T]) -> _T:
    """Return the result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("the transport in a thread waits for an event loop")
