"""Bus of a board with memory and its registers, behind a link that carries single accesses."""

import asyncio
from collections.abc import Sequence

from tritstream.host.board.bus import NUMBERS, Bus, Progress, Session
from tritstream.host.board.dram_leveling import level, works
from tritstream.host.board.link import Link
from tritstream.host.board.matrix_store import DIRECTORY_BYTES
from tritstream.host.board.request_area import REQUEST_BYTES
from tritstream.host.errors import TransportClosed
from tritstream.hw.config import LANE_COUNTS
from tritstream.hw.soc.registers import CSR_BASE, MAGIC, MEMORY, UNIT

__all__ = ["SocBus"]

#: Most byte lanes of a memory, because each has a bit in a register.
_MAX_LEVELS = 32

#: Largest memory that fits the bus, and largest ring of responses that a host is asked to read.
_MAX_MEMORY, _MAX_RING = CSR_BASE - MEMORY, 1 << 24

#: Attempts to restart a board.
_RESTARTS = 100


class SocBus(Bus):
    """Bus of a board with memory: :mod:`tritstream.hw.soc.registers`.

    Parameters
    ----------
    link : Link
        Reads and writes registers and memory of the board; closed with the bus.
    """

    def __init__(self, link: Link):
        self._link = link

    async def restart(self) -> Session:
        """Restart the board, and level its memory if that does not work: :meth:`.Bus.restart`."""
        magic, ready, levels, lanes, memory, ring, align, session = (
            await self._link.get("magic", "ready", "levels", "lanes", "memory", "ring", "align",
                                 "session"))
        if magic != MAGIC or not ready:
            raise TransportClosed("no board with memory answers there, or its memory does not work")
        _check_sizes(levels, lanes, memory, ring, align)
        number = (session + 1) % NUMBERS
        for _ in range(_RESTARTS):
            if await self._link.put("restart", number, then="session") == number:
                break
        else:
            raise TransportClosed("the board does not restart; power it off and on")
        tail, written = await self._link.get("tail", "written")
        await self.release(written)
        start = MEMORY + memory - ring - REQUEST_BYTES
        if levels and not await works(self._link, start):
            await level(self._link, levels, start)
        return Session(number, lanes, memory, ring, align, tail, written)

    async def write(self, address: int, data: bytes | memoryview) -> None:
        """Write to memory: :meth:`.Bus.write`."""
        await self._link.write(MEMORY + address, data)

    async def read(self, address: int, size: int) -> bytes:
        """Read from memory: :meth:`.Bus.read`."""
        return await self._link.read(MEMORY + address, size)

    async def push(self, segments: Sequence[tuple[int, int]], tail: int) -> int:
        """Give descriptors, which may be under way together: :meth:`.Bus.push`."""
        tails = await asyncio.gather(*(
            self._link.put("address", address // UNIT, size // UNIT, tail + number, then="tail")
            for number, (address, size) in enumerate(segments)))
        return max(tails, key=lambda each: (each - tail) % NUMBERS)

    async def progress(self) -> Progress:
        """Return the progress: :meth:`.Bus.progress`."""
        session, head, written = await self._link.get("session", "head", "written")
        return Progress(session, head, written)

    async def release(self, written: int) -> None:
        """Release the ring: :meth:`.Bus.release`."""
        await self._link.put("take", written, then="taken")

    def close(self) -> None:
        """Close the link."""
        self._link.close()


def _check_sizes(levels: int, lanes: int, memory: int, ring: int, align: int) -> None:
    """Raise :class:`TransportClosed` for sizes that no board has."""
    if not (lanes in LANE_COUNTS and levels <= _MAX_LEVELS
            and 0 < align <= ring <= _MAX_RING and ring % align == 0
            and DIRECTORY_BYTES + REQUEST_BYTES + ring <= memory <= _MAX_MEMORY):
        raise TransportClosed(f"the board reports impossible sizes: {lanes} lanes, {memory} bytes "
                              f"of memory, {ring} of them for answers, aligned to {align}")
