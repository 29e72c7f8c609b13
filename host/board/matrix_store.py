"""Matrices in the memory of a board, and the directory of their addresses."""

import json
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from struct import Struct
from typing import ClassVar
from zlib import crc32

from tritstream.golden.errors import is_printable
from tritstream.golden.fixed_point import GROUP
from tritstream.golden.strict_json import parse_json
from tritstream.host.board.bus import Bus
from tritstream.host.errors import DeviceError
from tritstream.host.layout.prepare import MatrixPart, PreparedMatrix, without_words
from tritstream.host.layout.stored import AnyMatrix, chunk_count, fingerprint, stored_of
from tritstream.host.placement.work import Span
from tritstream.host.protocol.frames import padded
from tritstream.host.protocol.records import Info
from tritstream.host.transports.base import Stored, Transport
from tritstream.hw.protocol import REQUEST_ALIGN

__all__ = ["DIRECTORY_BYTES", "Store", "StoredPart", "StoringTransport", "stored_name"]

#: Bytes at the start of memory that hold the directory; matrices follow.
DIRECTORY_BYTES = 1 << 18

_HEAD  = Struct("<8sII")        # magic, length and CRC-32 of the JSON behind it
_MAGIC = b"tritdir1"


@dataclass(frozen=True)
class StoredPart:
    """A range of columns of a matrix whose words are in the board's memory.

    Members
    -------
    first_group, groups, blocks : int
        First group of the range, groups per row, and number of row blocks.
    address, length, crc : int
        Address, bytes and CRC-32 of the words, as in :class:`.Stored`.
    """

    first_group: int
    groups:      int
    blocks:      int
    address:     int
    length:      int
    crc:         int

    #: Rows are not folded in memory: :class:`tritstream.host.board.transport.BoardTransport`.
    fold: ClassVar[None] = None

    @property
    def columns(self) -> slice:
        """Range of columns."""
        return slice(GROUP * self.first_group, GROUP * (self.first_group + self.groups))

    @property
    def nbytes(self) -> int:
        """Size of the words in bytes."""
        return self.length

    def payload(self, first: int, count: int) -> Stored:
        """Return the location of the words of all row blocks.

        Raises :class:`ValueError` for fewer row blocks, because these have no CRC of their own.
        """
        if (first, count) != (0, self.blocks):
            raise ValueError(f"row blocks {first}..{first + count - 1} are not stored apart")
        return self._stored

    @cached_property
    def _stored(self) -> Stored:
        return Stored(self.address, self.length, self.crc)

    def payload_crc(self, first: int, count: int) -> int:
        """Return the CRC-32 of the words of all row blocks: :meth:`payload`."""
        return self.payload(first, count).crc

    def cuts(self, limit: int) -> Iterator[tuple[int, int]]:
        """Yield the only pair (first, count) of row blocks, because stored words are not split."""
        yield 0, self.blocks


@dataclass(frozen=True)
class _Entry:
    """A matrix in the directory; ``crc`` is its :func:`.fingerprint`."""

    crc:   int
    depth: int
    shape: tuple[int, int]
    parts: tuple[StoredPart, ...]

    @property
    def chunks(self) -> range:
        """Chunks of 16 columns that the parts have, if they follow each other."""
        last = self.parts[-1]
        return range(self.parts[0].first_group, last.first_group + last.groups)

    @classmethod
    def of(cls, record: dict, end: int) -> "_Entry":
        """Read an entry from its JSON, as :func:`dataclasses.asdict` wrote it.

        Raises :class:`ValueError`, :class:`TypeError` or :class:`KeyError` for another record, or
        if the words are not in memory before ``end``.
        """
        rows, columns = record["shape"]
        entry = cls(record["crc"], record["depth"], (rows, columns),
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
    """Matrices in a board's memory, in addition to requests and responses.

    The directory is read once. It is valid only if its CRC is right. :meth:`erase` invalidates it
    and :meth:`publish` writes it, so the directory is empty after an interrupted change.

    Parameters
    ----------
    bus : Bus
        Bus of the board.
    """

    def __init__(self, bus: Bus):
        self._bus = bus
        self._entries: dict[str, _Entry] = {}
        self._lanes = 0
        self.end = 0

    async def open(self, lanes: int, end: int) -> None:
        """Read the directory of a board with ``lanes`` lanes, whose store ends at ``end``."""
        self._lanes, self.end = lanes, end
        self._entries = {}
        magic, size, crc = _HEAD.unpack(await self._bus.read(0, _HEAD.size))
        if magic != _MAGIC or size > DIRECTORY_BYTES - _HEAD.size:
            return
        text = (await self._bus.read(_HEAD.size, padded(size, 4)))[:size]
        if crc32(text) == crc:
            self._entries = _entries(text, lanes, end)

    @property
    def names(self) -> list[str]:
        """Names of the stored matrices."""
        return list(self._entries)

    @property
    def capacity(self) -> int:
        """Bytes for words of matrices."""
        return self.end - DIRECTORY_BYTES

    @property
    def free(self) -> int:
        """Free bytes."""
        return self.end - self._next()

    async def find(
        self, matrix: AnyMatrix, name: str, info: Info, span: Span | None = None,
    ) -> PreparedMatrix | None:
        """Return a matrix, or the part of it that is stored; None if it is not or its CRC differs.

        ``matrix`` has the rows of the part, and all columns.
        """
        entry = self._entries.get(stored_name(name, span))
        if not entry:
            return None
        stored = stored_of(matrix)
        found = without_words(stored, info.lanes, entry.parts, name, info.max_k)
        chunks = range(chunk_count(stored)) if span is None else span.chunks
        same = ((entry.depth, entry.shape, entry.chunks)
                == (found.depth, found.shape, chunks))
        return found if same and entry.crc == fingerprint(stored) else None

    async def erase(self) -> None:
        """Remove all matrices, and invalidate the directory."""
        self._entries = {}
        await self._bus.write(0, bytes(_HEAD.size))

    async def add(
        self, prepared: PreparedMatrix, matrix: AnyMatrix, span: Span | None = None,
    ) -> None:
        """Write the words of a matrix, or of a part of it, after those of the stored matrices.

        ``matrix`` has the rows of the part, and all columns.

        Raises :class:`DeviceError` when the memory is full, :class:`ValueError` when rows are
        folded or the matrix is in a board's memory already.
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
            data = _words(part)
            await self._bus.write(at, data)
            parts.append(StoredPart(part.first_group, part.groups, part.blocks, at, part.nbytes,
                                    crc32(data)))
            at += len(data)
        self._entries[stored_name(prepared.name, span)] = _Entry(
            fingerprint(stored_of(matrix)), prepared.depth, prepared.shape, tuple(parts))

    def drop(self, name: str) -> None:
        """Remove what is stored under a name; its memory becomes free if it was the last one."""
        del self._entries[name]

    async def publish(self) -> None:
        """Write the directory, so that later sessions find the matrices."""
        matrices = {name: asdict(entry) for name, entry in self._entries.items()}
        text = json.dumps({"lanes": self._lanes, "matrices": matrices}).encode()
        if len(text) > DIRECTORY_BYTES - _HEAD.size:
            raise DeviceError(f"{len(matrices)} matrices are too many for the board's directory")
        await self._bus.write(_HEAD.size, text.ljust(padded(len(text), 4), b"\0"))
        await self._bus.write(0, _HEAD.pack(_MAGIC, len(text), crc32(text)))

    def _next(self) -> int:
        """Return the address of the next matrix."""
        ends = [padded(part.address + part.length, REQUEST_ALIGN)
                for entry in self._entries.values() for part in entry.parts]
        return max(ends, default=DIRECTORY_BYTES)


def stored_name(name: str, span: Span | None) -> str:
    """Return the name under which a board stores a matrix, or a part of it."""
    return name if span is None else f"{name}{span}"


class StoringTransport(Transport):
    """Transport to a board with memory, whose `send` takes :class:`.Stored` payloads too.

    Members
    -------
    store : Store
        Matrices in the memory, known after the first request.
    """

    @property
    @abstractmethod
    def store(self) -> Store:
        """Matrices in the memory of the board."""


def _words(part: MatrixPart) -> bytes:
    """Return the words of a part, zero-padded as they are stored."""
    words = part.payload(0, part.blocks)
    if isinstance(words, Stored):
        raise ValueError("the matrix is in a board's memory already; prepare it with "
                         "tritstream.host.layout.prepare")
    return bytes(words).ljust(padded(len(words), REQUEST_ALIGN), b"\0")


def _entries(text: bytes, lanes: int, end: int) -> dict[str, _Entry]:
    """Return the entries of a directory; none if it is invalid or for another lane count."""
    try:
        directory = parse_json(text)
        if directory["lanes"] != lanes or not all(map(is_printable, directory["matrices"])):
            return {}
        return {name: _Entry.of(record, end) for name, record in directory["matrices"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
