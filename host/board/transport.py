"""Transport to a board with memory: requests and responses pass through its memory."""

import asyncio

from tritstream.host.board.bus import BoardLink
from tritstream.host.board.dram_leveling import level, works
from tritstream.host.board.matrix_store import DIRECTORY_BYTES, Store, StoringTransport
from tritstream.host.board.request_area import REQUEST_BYTES, RequestArea, byte_count, runs
from tritstream.host.errors import BadAnswer, TransportClosed, TransportTimeout
from tritstream.host.protocol.answer_reader import MAX_LENGTH
from tritstream.host.protocol.frames import Header, answer_bytes, padded
from tritstream.host.transports.base import Stored
from tritstream.hw.config import LANE_COUNTS
from tritstream.hw.protocol import HEADER_BYTES
from tritstream.hw.soc.registers import CSR_BASE, MAGIC, MEMORY, UNIT

__all__ = ["BoardTransport"]

_NUMBERS = 1 << 32

#: Most byte lanes of a memory, because each has a bit in a register.
_MAX_LEVELS = 32

#: Largest memory that fits the bus, and largest ring of responses that a host is asked to read.
_MAX_MEMORY, _MAX_RING = CSR_BASE - MEMORY, 1 << 24

#: Polls for a response without a pause, and seconds between later polls.
_EAGER, _PAUSE = 50, 0.001


class BoardTransport(StoringTransport):
    """Transport over the bus of a board.

    Requests are written to memory, and the board gets a descriptor with the address of each. A
    stored payload needs only its descriptor. Responses are read from a ring in memory. If the board
    stays silent, it is restarted before the next request.

    Rows are not folded, because a further frame takes several round trips, in which the core could
    take thousands of words.

    Parameters
    ----------
    link : BoardLink
        Bus of the board, closed with the transport.
    timeout : float
        Seconds of silence after which the driver retries.
    """

    fold_words = None

    def __init__(self, link: BoardLink, timeout: float = 5.0):
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 s, not {timeout!r}")
        self._link, self._timeout = link, timeout
        self._store = Store(link)
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
        now = asyncio.get_running_loop().time
        last, progress, polls = now(), None, 0
        while len(self._answers) < count:
            before = self._seen
            state = await self._poll()
            if state != progress:
                last, progress = now(), state
            elif now() - last > self._timeout:
                self._session = None
                raise TransportTimeout(f"silent for {self._timeout:g} s")
            polls = 0 if self._seen != before else polls + 1
            if polls > _EAGER:
                await asyncio.sleep(_PAUSE)
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
        self._link.close()

    async def _restart(self) -> None:
        """Make the board drop pending requests, and read its sizes and counters."""
        magic, ready, levels, self._lanes, memory, self._ring, self._align, session = (
            await self._link.get("magic", "ready", "levels", "lanes", "memory", "ring", "align",
                                 "session"))
        if magic != MAGIC or not ready:
            raise TransportClosed("no board with memory answers there, or its memory does not work")
        _check_sizes(levels, self._lanes, memory, self._ring, self._align)
        next_session = (session + 1) % _NUMBERS
        for _ in range(100):
            if await self._link.put("restart", next_session, then="session") == next_session:
                break
        else:
            raise TransportClosed("the board does not restart; power it off and on")
        self._tail, self._seen = await self._link.get("tail", "written")
        await self._link.put("take", self._seen, then="taken")
        self._given = self._seen
        self._frames.clear()
        self._answers.clear()
        self._pending.clear()
        self._start = memory - self._ring - REQUEST_BYTES
        if levels and not await works(self._link, MEMORY + self._start):
            await level(self._link, levels, MEMORY + self._start)
        self._area = RequestArea(self._start, next_session)
        self._session = next_session
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
            place, before = self._area.take(len(run), (self._tail + len(places) + 1) % _NUMBERS)
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
        await asyncio.gather(*(self._link.write(MEMORY + place, data) for place, data in writes))
        last_tail = (self._tail + len(places)) % _NUMBERS
        end = self._deadline()
        while self._tail != last_tail:
            left = places[-((last_tail - self._tail) % _NUMBERS):]
            tails = await asyncio.gather(*(
                self._link.put("address", address // UNIT, size // UNIT, self._tail + number,
                               then="tail")
                for number, (address, size) in enumerate(left)))
            tail = max(tails, key=lambda each: (each - self._tail) % _NUMBERS)
            if (tail - self._tail) % _NUMBERS > len(left):
                self._session = None
                raise BadAnswer("the board says that it took more descriptors than it was given")
            if tail == self._tail:
                self._give_up_after(end, "takes no descriptor")
                await self._poll()      # a core that finds no room for responses takes no words
                await asyncio.sleep(_PAUSE)
            self._tail = tail

    async def _until_read(self, index: int) -> None:
        """Wait until the core has the words of the descriptors before ``index``."""
        end = self._deadline()
        while 0 < (index - (await self._poll())[0]) % _NUMBERS < _NUMBERS // 2:
            self._give_up_after(end, "reads no requests")
            await asyncio.sleep(_PAUSE)

    async def _poll(self) -> tuple[int, int]:
        """Read responses that have come, and return the registers `head` and `written`."""
        session, head, written = await self._link.get("session", "head", "written")
        self._check(session)
        if written != self._seen:
            await self._take(written)
        return head, written

    async def _take(self, written: int) -> None:
        """Read responses from the ring, and release their memory, many at a time."""
        units = self._ring // self._align
        if (written - self._seen) % _NUMBERS > units - (self._seen - self._given) % _NUMBERS:
            self._session = None
            raise BadAnswer("the board says that it has written more answers than there is room "
                            "for, or fewer than it had")
        while self._seen != written:
            first = self._seen % units
            count = min((written - self._seen) % _NUMBERS, units - first)
            self._frames += await self._link.read(
                MEMORY + self._start + REQUEST_BYTES + first * self._align, count * self._align)
            self._seen = (self._seen + count) % _NUMBERS
        if (self._seen - self._given) % _NUMBERS > units // 4:
            await self._link.put("take", self._seen, then="taken")
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
        return asyncio.get_running_loop().time() + self._timeout

    def _give_up_after(self, end: float, what: str) -> None:
        if asyncio.get_running_loop().time() > end:
            self._session = None
            raise TransportTimeout(f"{what} for {self._timeout:g} s")


def _check_sizes(levels: int, lanes: int, memory: int, ring: int, align: int) -> None:
    """Raise :class:`TransportClosed` for sizes that no board has."""
    if not (lanes in LANE_COUNTS and levels <= _MAX_LEVELS
            and 0 < align <= ring <= _MAX_RING and ring % align == 0
            and DIRECTORY_BYTES + REQUEST_BYTES + ring <= memory <= _MAX_MEMORY):
        raise TransportClosed(f"the board reports impossible sizes: {lanes} lanes, {memory} bytes "
                              f"of memory, {ring} of them for answers, aligned to {align}")
