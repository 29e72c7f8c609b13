"""Bus of a channel of a memory-mapped core."""

from collections.abc import Sequence

from tritstream.host.board.bus import EAGER_POLLS, NUMBERS, PAUSE, Bus, Progress, Session
from tritstream.host.board.core import Buffer, Core
from tritstream.host.board.matrix_store import DIRECTORY_BYTES
from tritstream.host.board.request_area import REQUEST_BYTES
from tritstream.host.errors import BadAnswer, TransportClosed
from tritstream.hw.axi.config import PAGE
from tritstream.hw.axi.registers import MAGIC, Error, Status
from tritstream.hw.config import LANE_COUNTS
from tritstream.hw.soc.registers import UNIT

__all__ = ["LEAST_BYTES", "AxiBus"]

#: Bytes of the ring of responses.
_RING = 1 << 17
#: Fewest bytes of memory that a channel needs; more hold matrices.
LEAST_BYTES = DIRECTORY_BYTES + REQUEST_BYTES + _RING

#: Seconds of the first wait for a channel; every further wait is twice as long.
_STEP = 2e-6
#: Polls of a channel that is closed.
_LAST_POLLS = 1000

_CAUSES = Status.REACHED | Status.ERROR


class AxiBus(Bus):
    """Bus of a channel: :mod:`tritstream.hw.axi.registers`. Memory is mapped into this process.

    Parameters
    ----------
    core : Core
        Core of the channel, released with the bus.
    channel : int
        Number of the channel.
    buffer : Buffer
        Memory that holds the channel's part.
    first, size : int
        Place of the part in the buffer, in bytes, multiples of 4096.
    drain : float
        Seconds within which the channel completes its bursts.

    Raises :class:`ValueError` for a part that is too small, or that starts or ends within a page.
    """

    def __init__(self, core: Core, channel: int, buffer: Buffer, first: int, size: int,
                 drain: float = 1.0):
        if size < LEAST_BYTES:
            raise ValueError(f"channel {channel} gets {size} bytes of memory; it needs at least "
                             f"{LEAST_BYTES}, and more to hold matrices")
        if (buffer.address + first) % PAGE or size % PAGE:
            raise ValueError(f"the memory of channel {channel}, {size} bytes at "
                             f"{buffer.address + first:#x}, must consist of pages of {PAGE} bytes")
        self._core, self._channel = core, channel
        self._buffer, self._first, self._size = buffer, first, size
        self._drain = drain
        self._session: int | None = None

    async def restart(self) -> Session:
        """Tell the channel its memory, and restart it: :meth:`.Bus.restart`."""
        magic, lanes, align, session = self._get("magic", "lanes", "align", "session")
        if magic != MAGIC:
            raise TransportClosed(f"channel {self._channel}: nothing answers at the address of its "
                                  "registers")
        if not (lanes in LANE_COUNTS and 0 < align <= _RING and _RING % align == 0):
            raise TransportClosed(f"channel {self._channel} reports impossible sizes: {lanes} "
                                  f"lanes, answers aligned to {align}")
        number = (session + 1) % NUMBERS
        base = self._buffer.address + self._first
        ring = base + self._size - _RING
        self._put(enable=0, base_low=base, base_high=base >> 32,
                  memory=(self._size - _RING) // UNIT, ring_low=ring, ring_high=ring >> 32,
                  ring=_RING, restart=number)
        await self._until(number)
        self._session = number
        tail, written = self._get("tail", "written")
        return Session(number, lanes, self._size, _RING, align, tail, written)

    async def write(self, address: int, data: bytes | memoryview) -> None:
        """Write to memory: :meth:`.Bus.write`."""
        first = self._first + address
        self._buffer.data[first:first + len(data)] = data
        self._buffer.give(first, len(data))

    async def read(self, address: int, size: int) -> bytes:
        """Read from memory: :meth:`.Bus.read`."""
        first = self._first + address
        self._buffer.take(first, size)
        return bytes(self._buffer.data[first:first + size])

    async def push(self, segments: Sequence[tuple[int, int]], tail: int) -> int:
        """Give descriptors: :meth:`.Bus.push`. One that is out of turn is never taken."""
        for number, (address, size) in enumerate(segments):
            self._put(address=address // UNIT, length=size // UNIT, index=tail + number)
        return self._get("tail")[0]

    async def progress(self) -> Progress:
        """Return the progress: :meth:`.Bus.progress`."""
        # In this order: the counts are complete if the status was idle, and they are of the session
        # if that is still the same.
        status, written, head, error, session = self._get("status", "written", "head", "error",
                                                          "session")
        if error and session == self._session:
            raise BadAnswer(f"channel {self._channel} was halted by {_name(error)}")
        return Progress(session, head, written, bool(status & Status.IDLE))

    async def release(self, written: int) -> None:
        """Release the ring: :meth:`.Bus.release`."""
        self._put(take=written)

    async def rest(self, seen: int, polls: int) -> None:
        """Wait for responses or an error, by interrupt if there is one: :meth:`.Bus.rest`."""
        waiter = self._core.waiter
        if not waiter.interrupts:
            await waiter.wait(PAUSE if polls > EAGER_POLLS else 0)
            return
        self._put(wake=seen + 1, enable=_CAUSES)
        try:
            await waiter.wait(_pause(polls))
        finally:
            self._put(enable=0)

    def now(self) -> float:
        """Return the time of the core: :meth:`.Bus.now`."""
        return self._core.waiter.now()

    def close(self) -> None:
        """Stop the channel, which then leaves the memory alone, and release the core."""
        if self._session is not None:
            number, self._session = (self._session + 1) % NUMBERS, None
            self._put(enable=0, restart=number)     # ignored if another driver has restarted it
            for _ in range(_LAST_POLLS):
                if self._get("session") == [number]:
                    break
        self._core.release()

    async def _until(self, number: int) -> None:
        """Wait for the session of a restart."""
        end, polls = self.now() + self._drain, 0
        while self._get("session") != [number]:
            # Time may have passed while this process was paused, without a chance to look.
            if self.now() > end and polls > EAGER_POLLS:
                raise TransportClosed(f"channel {self._channel} does not restart: its memory has "
                                      "not answered a burst; reset the core with its memory")
            await self._core.waiter.wait(_pause(polls))
            polls += 1

    def _get(self, *names: str) -> list[int]:
        return self._core.get(self._channel, *names)

    def _put(self, **values: int) -> None:
        self._core.put(self._channel, **values)


def _pause(polls: int) -> float:
    """Return the seconds to wait after a number of polls."""
    return min(PAUSE, _STEP * 2 ** min(polls, EAGER_POLLS))


def _name(error: int) -> str:
    """Return name and meaning of a value of the register ``error``."""
    return next((f"{code.name} ({code.text})" for code in Error if code == error),
                f"error {error}")
