"""A transport that works where it keeps no one from running: in a thread of its own."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tritstream.host.transports.base import Transport

__all__ = ["ThreadTransport"]


class ThreadTransport:
    """Transport through another one whose methods compute and never wait for an event loop.

    Awaiting an answer lets the tasks of asyncio run meanwhile, so that several devices work at a
    time. A call that is cancelled goes on in the thread; what it receives is for the next. Answers
    that the other one has ``ready()`` beyond those asked for are taken along.

    Parameters
    ----------
    transport : Transport
        Used by the thread alone from now on, and closed with this one.
    """

    def __init__(self, transport: Transport):
        self._transport = transport
        self._requests: deque[bytes | memoryview] = deque()
        self._answers = bytearray()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self.flow_control = getattr(transport, "flow_control", True)
        self.about = getattr(transport, "about", {})

    async def send(self, data: bytes | memoryview) -> None:
        """Keep ``data`` until an answer is wanted: :meth:`.Transport.send`."""
        self._requests.append(data)

    async def recv(self, count: int) -> bytes:
        """Wait for the thread: :meth:`.Transport.recv`; raises for `send` too."""
        if self._requests or len(self._answers) < count:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._fetch, count)
        data = bytes(self._answers[:count])
        del self._answers[:count]
        return data

    def close(self) -> None:
        """Wait for what the thread is at, and close the transport."""
        self._thread.shutdown()
        self._transport.close()

    def _fetch(self, count: int) -> None:
        while self._requests:
            _result(self._transport.send(self._requests.popleft()))
        if len(self._answers) < count:
            self._answers += _result(self._transport.recv(count - len(self._answers)))
            self._answers += getattr(self._transport, "ready", bytes)()


def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine that never waits returns."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("the transport in a thread waits for an event loop")
