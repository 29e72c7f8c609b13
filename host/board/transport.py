"""Transport to a board with memory: requests and responses pass through its memory."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from tritstream.host.board.bus import NUMBERS, Bus, Progress
from tritstream.host.board.matrix_store import Store, StoringTransport
from tritstream.host.board.request_area import REQUEST_BYTES, RequestArea, byte_count, runs
from tritstream.host.errors import BadAnswer, TransportClosed, TransportTimeout
from tritstream.host.protocol.answer_reader import MAX_LENGTH
from tritstream.host.protocol.frames import Header, answer_bytes, padded
from tritstream.host.transports.base import Stored
from tritstream.hw.protocol import HEADER_BYTES

__all__ = ["BoardTransport"]


class BoardTransport(StoringTransport):
    """Transport over the bus of a board.

    Requests are written to memory, and the board gets a descriptor with the address of each. A
    stored payload needs only its descriptor. Responses are read from a ring in memory. If the board
    stays silent, it is restarted before the next request.

    Rows are not folded, because a further frame takes several round trips, in which the core could
    take thousands of words.

    Parameters
    ----------
    bus : Bus
        Bus of the board, closed with the transport.
    timeout : float
        Seconds of silence after which the driver retries.
    about : mapping of str to str, optional
        How the board was made, if known.
    """

    fold_words = None

    def __init__(self, bus: Bus, timeout: float = 5.0,
                 about: Mapping[str, str] = MappingProxyType({})):
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 s, not {timeout!r}")
        self._bus, self._timeout, self.about = bus, timeout, about
        self._store = Store(bus)
        self._session: int | None = None    # None until the next restart
        self._lanes = self._ring = self._align = self._start = 0
        self._tail = self._seen = self._given = 0
        self._pending: list[bytes | memoryview | Stored] = []
        self._frames, self._answers = bytearray(), bytearray()

    @property
    def store(self) -> Store:
        """Matrices in the memory, known after the first request."""
        return self._store

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Keep ``data`` until it is worth a transfer or a response is awaited."""
        if self._session is None:
            await self._restart()
        self._pending.append(data)
        if sum(map(byte_count, self._pending)) >= REQUEST_BYTES // 4:
            await self._flush()

    async def recv(self, count: int) -> bytes:
        """Wait for ``count`` bytes of responses, without their padding in memory."""
        if self._session is None:
            await self._restart()
        await self._flush()
        now = self._bus.now
        last, progress, polls = now(), None, 0
        while len(self._answers) < count:
            before = self._seen
            state = await self._poll()
            if state.idle and len(self._answers) < count:
                self._session = None
                raise TransportTimeout("idle, with responses missing")
            if state != progress:
                last, progress = now(), state
            elif now() - last > self._timeout:
                self._session = None
                raise TransportTimeout(f"silent for {self._timeout:g} s")
            polls = 0 if self._seen != before else polls + 1
            if len(self._answers) < count:
                await self._bus.rest(self._seen, polls)
        data = bytes(self._answers[:count])
        del self._answers[:count]
        return data

    def ready(self) -> bytes:
        """Return responses that were read with others: :meth:`.Transport.ready`."""
        data = bytes(self._answers)
        self._answers.clear()
        return data

    def close(self) -> None:
        """Close the bus."""
        self._bus.close()

    async def _restart(self) -> None:
        """Make the board drop pending requests, and begin a session."""
        session = await self._bus.restart()
        self._lanes, self._ring, self._align = session.lanes, session.ring, session.align
        self._tail, self._seen = session.tail, session.written
        self._given = self._seen
        self._frames.clear()
        self._answers.clear()
        self._pending.clear()
        self._start = session.memory - session.ring - REQUEST_BYTES
        self._area = RequestArea(self._start, session.number)
        self._session = session.number
        await self._store.open(self._lanes, self._start)

    async def _flush(self) -> None:
        """Write pending requests to memory and give the board their descriptors."""
        pending, self._pending = self._pending, []
        places: list[tuple[int, int]] = []
        writes, waiting = [], 0
        for run in runs(pending):
            if isinstance(run, Stored):
                places.append((run.address, run.size))
                continue
            place, before = self._area.take(len(run), (self._tail + len(places) + 1) % NUMBERS)
            if before is not None:
                await self._until_read(before)
            writes.append((place, run))
            places.append((place, len(run)))
            waiting += len(run)
            if waiting >= REQUEST_BYTES // 4:
                await self._hand_over(writes, places)
                places, writes, waiting = [], [], 0
        await self._hand_over(writes, places)

    async def _hand_over(self, writes: list, places: list[tuple[int, int]]) -> None:
        """Write to memory, then give the board a descriptor per (address, size), in order."""
        await asyncio.gather(*(self._bus.write(place, data) for place, data in writes))
        last_tail = (self._tail + len(places)) % NUMBERS
        end, polls = self._deadline(), 0
        while self._tail != last_tail:
            left = places[-((last_tail - self._tail) % NUMBERS):]
            tail = await self._bus.push(left, self._tail)
            if (tail - self._tail) % NUMBERS > len(left):
                self._session = None
                raise BadAnswer("the board says that it took more descriptors than it was given")
            if tail == self._tail:
                self._give_up_after(end, "takes no descriptor")
                await self._poll()      # a core that finds no room for responses takes no words
                await self._bus.rest(self._seen, polls)
                polls += 1
            self._tail = tail

    async def _until_read(self, index: int) -> None:
        """Wait until the core has the words of the descriptors before ``index``."""
        end, polls = self._deadline(), 0
        while 0 < (index - (await self._poll()).head) % NUMBERS < NUMBERS // 2:
            self._give_up_after(end, "reads no requests")
            await self._bus.rest(self._seen, polls)
            polls += 1

    async def _poll(self) -> Progress:
        """Read responses that have come, and return the progress."""
        try:
            progress = await self._bus.progress()
        except BadAnswer:
            self._session = None
            raise
        self._check(progress.session)
        if progress.written != self._seen:
            await self._take(progress.written)
        return progress

    async def _take(self, written: int) -> None:
        """Read responses from the ring, and release their memory, many at a time."""
        units = self._ring // self._align
        if (written - self._seen) % NUMBERS > units - (self._seen - self._given) % NUMBERS:
            self._session = None
            raise BadAnswer("the board says that it has written more answers than there is room "
                            "for, or fewer than it had")
        while self._seen != written:
            first = self._seen % units
            count = min((written - self._seen) % NUMBERS, units - first)
            self._frames += await self._bus.read(
                self._start + REQUEST_BYTES + first * self._align, count * self._align)
            self._seen = (self._seen + count) % NUMBERS
        if (self._seen - self._given) % NUMBERS > units // 4:
            await self._bus.release(self._seen)
            self._given = self._seen
        self._unwrap()

    def _unwrap(self) -> None:
        """Move complete responses out of the ring's bytes, without their padding."""
        while len(self._frames) >= HEADER_BYTES:
            header = Header.parse(self._frames)
            if header is None or header.length > MAX_LENGTH:
                self._session = None
                raise BadAnswer("an answer in the board's memory starts with no valid header")
            size = answer_bytes(header.length, self._lanes)
            if len(self._frames) < padded(size, self._align):
                return
            self._answers += self._frames[:size]
            del self._frames[:padded(size, self._align)]

    def _check(self, session: int) -> None:
        if session != self._session:
            self._session = None
            raise TransportClosed("the board was restarted by someone else; it takes one at a time")

    def _deadline(self) -> float:
        return self._bus.now() + self._timeout

    def _give_up_after(self, end: float, what: str) -> None:
        if self._bus.now() > end:
            self._session = None
            raise TransportTimeout(f"{what} for {self._timeout:g} s")
