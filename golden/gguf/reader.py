"""Reader of GGUF files from untrusted sources: checks every length before using it."""

import mmap
import struct
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, GGUFValueType

from tritstream.golden.errors import CheckpointError, is_printable
from tritstream.golden.gguf.block_types import BlockType, types_of

__all__ = ["Gguf", "RawTensor"]

_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_SCALARS = {
    GGUFValueType.UINT8: "<u1", GGUFValueType.INT8: "<i1", GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2", GGUFValueType.UINT32: "<u4", GGUFValueType.INT32: "<i4",
    GGUFValueType.UINT64: "<u8", GGUFValueType.INT64: "<i8", GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.FLOAT64: "<f8", GGUFValueType.BOOL: "?",
}


@dataclass(frozen=True)
class RawTensor:
    """Tensor in a file: name, type of its blocks, shape outermost first, offset and bytes."""

    name:   str
    kind:   BlockType
    shape:  tuple[int, ...]
    offset: int
    size:   int


@dataclass(frozen=True)
class _Entry:
    """Entry of the header for a tensor, whose number may stand for several types."""

    name:   str
    number: int
    kinds:  tuple[BlockType, ...]
    shape:  tuple[int, ...]
    offset: int

    def sizes(self) -> dict[int, BlockType]:
        """Return the types by the bytes that the tensor would take."""
        return {kind.bytes_of(self.shape): kind for kind in self.kinds}


class Gguf:
    """Header of one GGUF file, version 2 or 3, little-endian.

    Raises :class:`CheckpointError` unless the header is complete, and all tensors are within the
    file, aligned and without overlaps.

    Members
    -------
    path : Path
        The file.
    metadata : dict
        Values by key: numbers, strings, or lists of numbers or strings. A float32 is converted to
        the shortest decimal that rounds to it.
    tensors : dict
        :class:`RawTensor` by name, in the order of their bytes.
    """

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise CheckpointError(f"{path}: empty; copy it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                cursor = _Cursor(path, data)
                tensors, fields = _start(cursor)
                self.metadata = _metadata(cursor, fields)
                architecture = self.metadata.get("general.architecture")
                entries = [_entry(cursor, architecture) for _ in range(tensors)]
        align = self.metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if type(align) is not int or align < 1 or align & (align - 1):
            raise cursor.damaged(f"general.alignment must be a power of two, not {align!r}")
        self.tensors = self._placed(entries, -(-cursor.offset // align) * align, align)

    def _placed(self, entries: list[_Entry], start: int, align: int) -> dict[str, RawTensor]:
        """Return tensors by name, with offsets from the start of the file."""
        end, length, found = start, self.path.stat().st_size, {}
        entries = sorted(entries, key=lambda entry: (entry.offset, min(entry.sizes())))
        for entry, later in zip_longest(entries, entries[1:]):
            limit = start + later.offset if later else length
            offset = start + entry.offset
            if entry.name in found:
                raise self._damaged(f"two tensors are named {entry.name}")
            if offset < end or entry.offset % align:
                raise self._damaged(f"{entry.name} starts at byte {offset}, within another tensor "
                                    "or out of alignment")
            size = self._size(entry, limit - offset, align)
            end = offset + size
            if end > length:
                raise self._damaged(f"cut short, {length} bytes, but {entry.name} ends at {end}")
            found[entry.name] = RawTensor(entry.name, entry.sizes()[size], entry.shape, offset,
                                          size)
        return found

    def _size(self, entry: _Entry, space: int, align: int) -> int:
        """Return the bytes of a tensor with ``space`` bytes up to the next tensor or the end."""
        sizes = entry.sizes()
        fitting = [size for size in sizes if space in (size, -(-size // align) * align)]
        if len(sizes) > 1 and len(fitting) != 1:
            names = " or ".join(f"{kind.name} of {kind.weights}" for kind in sizes.values())
            raise CheckpointError(f"{self.path}: {entry.name} has type {entry.number}, and its "
                                  f"{space} bytes are not those of blocks of {names} weights; copy "
                                  "the file again")
        return fitting[0] if fitting else min(sizes)

    def _damaged(self, fault: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {fault}; copy the file again")


class _Cursor:
    """Position in the header of a file, and functions that read values there."""

    def __init__(self, path: Path, data: mmap.mmap):
        self.path, self.offset, self._data, self._size = path, 0, data, len(data)

    def damaged(self, fault: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {fault}; copy the file again")

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        if size > self._size - self.offset:
            raise self.damaged("cut short within its header, or damaged")
        self.offset += size
        return self._data[self.offset - size:self.offset]

    def number(self, layout: str) -> int:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(layout)))[0]

    def text(self) -> str:
        try:
            return self.take(self.number("Q")).decode()
        except UnicodeDecodeError:
            raise self.damaged("its header holds text that is not UTF-8") from None

    def name(self) -> str:
        """Return a string that must be printable."""
        name = self.text()
        if not is_printable(name):
            raise self.damaged(f"its header has a name that cannot be shown, {name!a:.40}")
        return name

    def kind(self) -> GGUFValueType:
        number = self.number("I")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise self.damaged(f"its header has a value of unknown type {number}") from None

    def value(self) -> Any:
        kind = self.kind()
        if kind != GGUFValueType.ARRAY:
            return self._values(kind, 1)[0]
        kind, count = self.kind(), self.number("Q")
        if kind == GGUFValueType.ARRAY:
            raise self.damaged("its header has arrays of arrays")
        return self._values(kind, count)

    def _values(self, kind: GGUFValueType, count: int) -> list:
        if kind == GGUFValueType.STRING:
            if count > (self._size - self.offset) // 8:
                raise self.damaged("cut short within its header, or damaged")
            return [self.text() for _ in range(count)]
        dtype = np.dtype(_SCALARS[kind])
        values = np.frombuffer(self.take(count * dtype.itemsize), dtype)
        if kind == GGUFValueType.FLOAT32:
            return [float(str(value)) for value in values]
        return values.tolist()


def _start(cursor: _Cursor) -> tuple[int, int]:
    """Check the first fields, and return the numbers of tensors and of metadata fields."""
    if cursor.number("I") != GGUF_MAGIC:
        raise CheckpointError(f"{cursor.path}: not a GGUF file; give one, or a directory")
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise CheckpointError(f"{cursor.path}: GGUF version {version} is not known, or the file is "
                              "big-endian; convert it with a current llama.cpp")
    return cursor.number("Q"), cursor.number("Q")


def _metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.name()
        if key in found:
            raise cursor.damaged(f"{key} is twice in its header")
        found[key] = cursor.value()
    return found


def _entry(cursor: _Cursor, architecture: object) -> _Entry:
    """Return the header's entry for a tensor, with its offset from the end of the header."""
    name, dimensions = cursor.name(), cursor.number("I")
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise cursor.damaged(f"{name} has {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]
    number, offset = cursor.number("I"), cursor.number("Q")
    kinds = types_of(number, architecture)
    if not kinds:
        raise CheckpointError(f"{cursor.path}: {name} has ggml type {number}, which is not known; "
                              "update tritstream and gguf, or convert the model to another type")
    if not any(kind.size for kind in kinds):
        raise CheckpointError(f"{cursor.path}: {name} has ggml type {number} ({kinds[0].name}), "
                              f"which is not supported; {kinds[0].advice}")
    kinds = tuple(kind for kind in kinds if 0 not in shape and kind.fits(shape)) or kinds[:0]
    if not kinds:
        raise cursor.damaged(f"{name} is {types_of(number, architecture)[0].name} of shape {shape}")
    return _Entry(name, number, kinds, shape, offset)
