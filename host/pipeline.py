"""Pipeline of GEMV frames: later ones are sent before the responses to the first have come."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from tritstream.host.errors import naming
from tritstream.host.part_products import GemvFrame
from tritstream.host.protocol.exchange import Exchange
from tritstream.host.protocol.loads import Loads
from tritstream.host.protocol.records import Stats

__all__ = ["Pipeline"]

#: Bytes of words and row sums that may be under way before a further frame is sent.
_AHEAD = 8 << 20


class Pipeline:
    """Frames that are sent in order, as many as there is room for, and repeated one by one.

    The device may have executed frames behind one that failed, on activations or scales that it
    did not get. So all frames from the failed one on are sent again, after their loads.

    Parameters
    ----------
    exchange : Exchange
    loads : Loads
        What the device holds.
    name : str
        Name of the device in error messages.
    frames : sequence of GemvFrame
    """

    def __init__(
        self, exchange: Exchange, loads: Loads, name: str, frames: Sequence[GemvFrame],
    ):
        self._exchange, self._loads, self._name = exchange, loads, name
        self._frames = frames
        self._at = 0
        #: Sequence numbers of the frames under way, from frame ``_at`` on.
        self._asked: deque[int] = deque()
        self._bytes = 0

    async def run(self) -> list[Stats]:
        """Await all frames; return the cost of each."""
        return [await self._complete(frame) for frame in self._frames]

    async def _complete(self, frame: GemvFrame) -> Stats:
        """Await frame ``_at``, and go on to the next one."""
        before = self._exchange.retried
        with naming(self._name, frame.product.matrix.name, frame):
            cost = await self._exchange.persist(self._attempt, self._forget)
        self._asked.popleft()
        self._bytes -= frame.nbytes
        self._at += 1
        retries = self._exchange.retried - before
        return replace(cost, retries=retries) if retries else cost

    async def _attempt(self) -> Stats:
        if not self._asked:
            await self._ask(self._frames[self._at])
        while (next_frame := self._next()) and self._bytes + next_frame.nbytes <= _AHEAD:
            await self._ask(next_frame)
        return await self._frames[self._at].take(self._exchange, self._asked[0])

    def _next(self) -> GemvFrame | None:
        """Return the next frame to send, if there is room for its requests."""
        place = self._at + len(self._asked)
        if place == len(self._frames) or self._frames[place].requests > self._exchange.room:
            return None
        return self._frames[place]

    async def _ask(self, frame: GemvFrame) -> None:
        self._asked.append(await frame.ask(self._exchange, self._loads))
        self._bytes += frame.nbytes

    def _forget(self) -> None:
        """Assume that no frame is under way, and that the device holds nothing."""
        self._asked.clear()
        self._bytes = 0
        self._loads.forget()
