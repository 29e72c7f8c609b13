"""Safetensors files written tensor by tensor, in any order, with checksums in the header."""

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from golden.job import Job
from golden.shards import DTYPES, seal
from golden.writing import writing

__all__ = ["Entry", "ShardWriter", "write_shard"]


@dataclass(frozen=True)
class Entry:
    """A tensor to be written: its name, dtype as the format calls it, shape and size in bytes."""

    name:  str
    dtype: str
    shape: tuple[int, ...]
    size:  int

    @property
    def alignment(self) -> int:
        """Bytes its place should be a multiple of."""
        return DTYPES[self.dtype].itemsize if self.dtype in DTYPES else 1


class ShardWriter:
    """One file, its places fixed from the start, its header written last.

    Opening it again goes on with the bytes that are there; :meth:`allocate` comes first. Tensors
    lie by falling alignment, so each can be mapped where it is.

    Parameters
    ----------
    path : Path
        The file.
    entries : iterable of Entry
        Its tensors.
    metadata : callable
        Makes ``__metadata__`` of CRC-32s by name, eight hex digits each; the length of what it
        returns must not depend on them. The header is sealed, see :func:`golden.shards.seal`.

    Members
    -------
    path : Path
        The file.
    whole : bool
        Whether the file was there in its full size: what was written earlier is still in it.
    """

    def __init__(
        self, path: Path, entries: Iterable[Entry],
        metadata: Callable[[dict[str, str]], dict[str, str]],
    ):
        self.path = path
        self._entries = sorted(entries, key=lambda entry: -entry.alignment)
        self._metadata = metadata
        self._start = len(self._header({entry.name: 0 for entry in self._entries}))
        self._places = {}
        place = self._start
        for entry in self._entries:
            self._places[entry.name] = (place, entry.size)
            place += entry.size
        self._end = place
        with writing(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.whole = os.fstat(self._file).st_size == place

    def allocate(self) -> None:
        """Give the file its full size; what is not written yet is zeros."""
        with writing(self.path):
            os.ftruncate(self._file, self._end)

    def write(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write a tensor, have it on the disk, return its CRC-32.

        Raises :class:`golden.shards.CheckpointError` when the disk does not take it.
        """
        start, size = self._places[name]
        crc, place = 0, start
        for piece in pieces:
            data = memoryview(piece).cast("B")
            crc = zlib.crc32(data, crc)
            self._put(data, place)
            place += len(data)
        if place != start + size:
            raise ValueError(f"{name} must be {size} bytes, not {place - start}")
        self._sync()
        return crc

    def finish(self, checksums: dict[str, int]) -> None:
        """Write the header with the CRC-32 of every tensor, and close."""
        header = self._header(checksums)
        if len(header) != self._start:
            raise ValueError(f"header must be {self._start} bytes, not {len(header)}")
        self._put(memoryview(header), 0)
        self._sync()
        self.close()

    def close(self) -> None:
        """Close as it is; a second time does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _put(self, data: memoryview, place: int) -> None:
        with writing(self.path):
            while data:
                count = os.pwrite(self._file, data, place)
                data, place = data[count:], place + count

    def _sync(self) -> None:
        with writing(self.path):
            os.fsync(self._file)

    def _header(self, checksums: dict[str, int]) -> bytes:
        texts = {name: f"{crc:08x}" for name, crc in checksums.items()}
        header: dict[str, object] = {"__metadata__": self._metadata(texts)}
        place = 0
        for entry in self._entries:
            header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape),
                                  "data_offsets": [place, place + entry.size]}
            place += entry.size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + seal(text)


def write_shard(
    job: Job, writer: ShardWriter, steps: Mapping[str, Callable[[], dict]],
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write a file step by step, leaving out what an earlier run of the job did; close it.

    Parameters
    ----------
    job : Job
        Where the steps are noted.
    writer : ShardWriter
        The file.
    steps : mapping
        By name, what writes one tensor or some, and returns a record for the journal: under
        ``checksums``, the CRC-32 of each by name.
    progress : callable
        Gets each name when its record is on the disk.
    """
    try:
        if not writer.whole:
            job.forget(steps)
        writer.allocate()
        checksums: dict[str, int] = {}
        for name, step in steps.items():
            if name not in job.done:
                job.record(name, step())
            checksums.update(job.done[name]["checksums"])
            if progress:
                progress(name)
        writer.finish(checksums)
    finally:
        writer.close()
