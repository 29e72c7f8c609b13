"""Matrices in the memory of a board, and the directory that says where."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from struct import Struct
from zlib import crc32

import numpy as np

from tritstream.golden.errors import is_printable
from tritstream.golden.fixed_point import GROUP, mantissas
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.strict_json import parse_json
from tritstream.host.board.bus import BoardLink
from tritstream.host.errors import DeviceError
from tritstream.host.layout.prepare import PreparedMatrix, Tiles, tiles_of
from tritstream.host.protocol.frames import Stored, padded
from tritstream.host.protocol.records import Info
from tritstream.hw.protocol import REQUEST_ALIGN
from tritstream.hw.soc.registers import MEMORY

__all__ = ["DIRECTORY_BYTES", "Store", "StoredPart"]

#: Start of memory, kept for the directory; matrices follow.
DIRECTORY_BYTES = 1 << 18

_HEAD  = Struct("<8sII")        # magic, length and CRC-32 of the JSON behind it
_MAGIC = b"tritdir1"


@dataclass(frozen=True)
class StoredPart:
    """A range of columns of a matrix in memory: what :class:`.Part` is for one here.

    Members
    -------
    first_group, groups, blocks : int
        Its first group, groups of each row, and row blocks.
    address, length, crc : int
        Of its words: :class:`tritstream.host.protocol.frames.Stored`.
    """

    first_group: int
    groups:      int
    blocks:      int
    address:     int
    length:      int
    crc:         int

    #: Rows are not folded in memory: :class:`tritstream.host.board.transport.BoardTransport`.
    fold = None

    @property
    def columns(self) -> slice:
        """The range, in columns."""
        return slice(GROUP * self.first_group, GROUP * (self.first_group + self.groups))

    @property
    def nbytes(self) -> int:
        """Bytes of the words."""
        return self.length

    def payload(self, first: int, count: int) -> Stored:
        """The words of all row blocks."""
        if (first, count) != (0, self.blocks):
            raise ValueError(f"row blocks {first}..{first + count - 1} are not stored apart")
        return Stored(self.address, self.length, self.crc)

    def cuts(self, _: int) -> Iterator[tuple[int, int]]:
        """The one pair (first, count) of row blocks; a frame in memory is as long as it is."""
        yield 0, self.blocks


@dataclass(frozen=True)
class _Entry:
    """A matrix in the directory; ``crc`` is that of tiles and table."""

    crc:   int
    depth: int
    shape: tuple[int, int]
    parts: tuple[StoredPart, ...]

    @classmethod
    def of(cls, record: dict, end: int) -> "_Entry":
        """Reverse of :func:`dataclasses.asdict`, from JSON; memory ends at ``end``.

        Raises :class:`ValueError`, :class:`TypeError` or :class:`KeyError` for anything else.
        """
        entry = cls(record["crc"], record["depth"], tuple(record["shape"]),
                    tuple(StoredPart(**part) for part in record["parts"]))
        numbers = [entry.crc, entry.depth, *entry.shape,
                   *(number for part in entry.parts for number in asdict(part).values())]
        inside = all(DIRECTORY_BYTES <= part.address <= end - padded(part.length, REQUEST_ALIGN)
                     and part.address % REQUEST_ALIGN == 0 for part in entry.parts)
        if not (inside and entry.parts and all(type(number) is int and number >= 0
                                               for number in numbers)):
            raise ValueError("a matrix that is not in memory")
        return entry


class Store:
    """What a board's memory holds, beside requests and answers.

    The directory is read once. It counts only as a whole, under its own CRC, and is gone while
    something is being written.

    Parameters
    ----------
    link : BoardLink
    """

    def __init__(self, link: BoardLink):
        self._link = link
        self._entries: dict[str, _Entry] | None = None
        self._lanes = 0
        self.end = 0

    async def open(self, lanes: int, end: int) -> None:
        """Read the directory of a board of ``lanes`` lanes, whose store ends at ``end``."""
        self._lanes, self.end = lanes, end
        self._entries = {}
        magic, size, crc = _HEAD.unpack(await self._link.read(MEMORY, _HEAD.size))
        if magic != _MAGIC or size > DIRECTORY_BYTES - _HEAD.size:
            return
        text = (await self._link.read(MEMORY + _HEAD.size, padded(size, 4)))[:size]
        if crc32(text) == crc:
            self._entries = _entries(text, lanes, end)

    @property
    def names(self) -> list[str]:
        """Matrices that are stored."""
        return list(self._entries or {})

    @property
    def free(self) -> int:
        """Bytes left."""
        return self.end - self._next()

    async def find(
        self, matrix: TritMatrix | Tiles, name: str, info: Info,
    ) -> PreparedMatrix | None:
        """A matrix as it is stored under its name; None where it is not, or not the same."""
        entry = (self._entries or {}).get(name)
        if not entry:
            return None
        tiles, table, depth, shape = tiles_of(matrix)
        if (entry.crc, entry.depth, entry.shape) != (_crc(tiles, table), depth, tuple(shape)):
            return None
        return PreparedMatrix(depth, tuple(shape), info.lanes, table, mantissas(table),
                              entry.parts, name)

    async def erase(self) -> None:
        """Forget everything."""
        self._entries = {}
        await self._link.write(MEMORY, bytes(_HEAD.size))

    async def add(self, prepared: PreparedMatrix, tiles: np.ndarray) -> None:
        """Write the words of a matrix behind those that are stored.

        Raises :class:`DeviceError` when there is no room, :class:`ValueError` when rows are folded.
        """
        if any(part.fold for part in prepared.parts):
            raise ValueError(f"{prepared.name}: folded rows are not stored; prepare it with "
                             "fold_words=None")
        size = sum(padded(part.nbytes, REQUEST_ALIGN) for part in prepared.parts)
        if size > self.free:
            raise DeviceError(f"{prepared.name}: takes {size} bytes of memory, {self.free} are "
                              "left on the board")
        at, parts = self._next(), []
        for part in prepared.parts:
            words = bytes(part.payload(0, part.blocks))
            data = words.ljust(padded(len(words), REQUEST_ALIGN), b"\0")
            await self._link.write(MEMORY + at, data)
            parts.append(StoredPart(part.first_group, part.groups, part.blocks, at, len(words),
                                    crc32(data)))
            at += len(data)
        self._entries[prepared.name] = _Entry(_crc(tiles, prepared.table), prepared.depth,
                                              prepared.shape, tuple(parts))

    def drop(self, name: str) -> None:
        """Forget a matrix; its place is free again if it was the last."""
        del self._entries[name]

    async def publish(self) -> None:
        """Write the directory: what was added is there for whoever comes next."""
        matrices = {name: asdict(entry) for name, entry in self._entries.items()}
        text = json.dumps({"lanes": self._lanes, "matrices": matrices}).encode()
        if len(text) > DIRECTORY_BYTES - _HEAD.size:
            raise DeviceError(f"{len(matrices)} matrices are too many for the board's directory")
        await self._link.write(MEMORY + _HEAD.size, text.ljust(padded(len(text), 4), b"\0"))
        await self._link.write(MEMORY, _HEAD.pack(_MAGIC, len(text), crc32(text)))

    def _next(self) -> int:
        """Where the next matrix goes."""
        ends = [padded(part.address + part.length, REQUEST_ALIGN)
                for entry in (self._entries or {}).values() for part in entry.parts]
        return max(ends, default=DIRECTORY_BYTES)


def _entries(text: bytes, lanes: int, end: int) -> dict[str, _Entry]:
    """What a directory has for a board of ``lanes`` lanes; nothing when it is none of ours."""
    try:
        found = parse_json(text)
        if found["lanes"] != lanes or not all(map(is_printable, found["matrices"])):
            return {}
        return {name: _Entry.of(record, end) for name, record in found["matrices"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _crc(tiles: np.ndarray, table: np.ndarray) -> int:
    return crc32(np.ascontiguousarray(table).tobytes(),
                 crc32(memoryview(np.ascontiguousarray(tiles)).cast("B")))
