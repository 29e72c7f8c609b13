"""Safetensors files written tensor by tensor, in any order, with checksums in the header."""

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from operator import index
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import DTYPES, seal
from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.jobs.journal import understood
from tritstream.golden.jobs.step import Run, Step, one_by_one
from tritstream.golden.write_errors import writing

__all__ = ["Entry", "Place", "ShardWriter", "write_arrays", "write_shards"]


#: Bytes that wait for the disk, at most: more would keep it idle now and everybody waiting later.
_AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Place:
    """Bytes of a file that is there and large enough.

    Members
    -------
    path : Path
        The file.
    start, size : int
        Where the bytes start in it, and how many they are.
    """

    path:  Path
    start: int
    size:  int

    def write(self, pieces: Iterable[bytes]) -> int:
        """Write bytes that add up to the size, have them on the disk, return their CRC-32.

        Raises :class:`tritstream.golden.errors.CheckpointError` when the disk does not take them.
        """
        with writing(self.path):
            file = os.open(self.path, os.O_WRONLY)
        try:
            crc, place, synced = 0, self.start, self.start
            for piece in pieces:
                data = memoryview(piece).cast("B")
                crc = zlib.crc32(data, crc)
                self._put(file, data, place)
                place += len(data)
                if place - synced >= _AT_ONCE:
                    with writing(self.path):
                        os.fdatasync(file)
                    synced = place
            if place != self.start + self.size:
                raise ValueError(f"{self.path}: {self.size} bytes are due at {self.start}, "
                                 f"not {place - self.start}")
            with writing(self.path):
                os.fsync(file)
        finally:
            os.close(file)
        return crc

    def _put(self, file: int, data: memoryview, place: int) -> None:
        with writing(self.path):
            while data:
                count = os.pwrite(file, data, place)
                data, place = data[count:], place + count


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

    :meth:`allocate` comes first; then places are written, by this process or others. Tensors lie by
    falling alignment, so each can be mapped where it is.

    Parameters
    ----------
    path : Path
        The file.
    entries : iterable of Entry
        Its tensors.
    metadata : callable
        Makes ``__metadata__`` of CRC-32s by name, eight hex digits each; the length of what it
        returns must not depend on them. The header is sealed, see :func:`.seal`.

    Members
    -------
    path : Path
        The file.
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
        start = self._start
        for entry in self._entries:
            self._places[entry.name] = Place(path, start, entry.size)
            start += entry.size
        self._end = start

    @property
    def whole(self) -> bool:
        """Whether the file is there in its full size: what was written earlier is still in it."""
        return self.path.is_file() and self.path.stat().st_size == self._end

    def allocate(self) -> None:
        """Give the file its full size; what is not written yet is zeros."""
        with writing(self.path), self.path.open("ab") as file:
            os.ftruncate(file.fileno(), self._end)

    def place(self, name: str) -> Place:
        """Where the bytes of a tensor go."""
        return self._places[name]

    def write(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write a tensor, have it on the disk, return its CRC-32."""
        return self.place(name).write(pieces)

    def finish(self, checksums: dict[str, int]) -> None:
        """Write the header with the CRC-32 of every tensor."""
        Place(self.path, 0, self._start).write([self._header(checksums)])

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


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str],
) -> dict[str, int]:
    """Write float32 arrays as one file, have it on the disk, and return CRC-32s by name.

    No copy is made of an array that is contiguous.
    """
    entries = [Entry(name, "F32", values.shape, values.nbytes) for name, values in arrays.items()]
    writer = ShardWriter(path, entries, lambda _: dict(metadata))
    writer.allocate()
    checksums = {name: writer.write(name, [np.ascontiguousarray(values, "<f4")])
                 for name, values in arrays.items()}
    writer.finish(checksums)
    return checksums


def write_shards(
    job: Job, shards: Iterable[tuple[ShardWriter, Mapping[str, Step]]],
    progress: Callable[[str], None] | None = None, run: Run = one_by_one,
) -> None:
    """Write files step by step, leaving out what an earlier run of the job did.

    Parameters
    ----------
    job : Job
        Where the steps are noted.
    shards : iterable
        The files, and the steps that write each, by name.
    progress : callable
        Gets each name, in that order, when its record is on the disk.
    run : Run
        Does the steps.
    """
    shards = list(shards)
    for writer, steps in shards:
        if not writer.whole:
            job.forget(steps)
        writer.allocate()
    records = run({name: step for _, steps in shards for name, step in steps.items()
                   if name not in job.done})
    with closing(records):
        for writer, steps in shards:
            checksums: dict[str, int] = {}
            for name in steps:
                while name not in job.done:
                    job.record(*next(records))
                checksums.update(understood(_checksums, job.done[name], job.partial))
                if progress:
                    progress(name)
            writer.finish(checksums)


def _checksums(record: dict) -> dict[str, int]:
    return {name: index(checksum) for name, checksum in record["checksums"].items()}
