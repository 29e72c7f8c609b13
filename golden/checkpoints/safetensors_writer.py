"""Writer of safetensors files: tensor by tensor, in any order, with checksums in the header.

The safetensors library is not used here, because it needs all tensors of a file in memory at once.
This writer fixes the offset of every tensor first. Several threads or machines can then write
tensors, an interrupted job can resume, and the header with the checksums is written last.
"""

import json
import math
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

__all__ = ["Data", "Entry", "Place", "ShardWriter", "array_entries", "write_arrays",
           "write_shards"]

#: Bytes of a tensor, or part of them.
Data = bytes | np.ndarray

#: Largest number of bytes written without waiting for the disk. With more, the disk would be idle
#: first, and all writers would be blocked later.
_AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Place:
    """Range of bytes in an existing file of sufficient size.

    Members
    -------
    path : Path
        The file.
    start, size : int
        Position of the first byte in the file, and number of bytes.
    """

    path:  Path
    start: int
    size:  int

    def write(self, pieces: Iterable[Data], durable: bool = True) -> int:
        """Write all bytes of the range, wait until they are on the disk, and return their CRC-32.

        Bytes that are not ``durable`` are not waited for.

        Raises :class:`.CheckpointError` if writing fails, and :class:`ValueError` if the pieces
        do not have ``size`` bytes in total.
        """
        with writing(self.path):
            file = os.open(self.path, os.O_WRONLY)
        try:
            crc, offset, synced = 0, self.start, self.start
            for piece in pieces:
                data = _bytes_of(piece)
                crc = zlib.crc32(data, crc)
                self._put(file, data, offset)
                offset += len(data)
                if durable and offset - synced >= _AT_ONCE:
                    with writing(self.path):
                        os.fdatasync(file)
                    synced = offset
            if offset != self.start + self.size:
                raise ValueError(f"{self.path}: {self.size} bytes are expected at {self.start}, "
                                 f"not {offset - self.start}")
            if durable:
                with writing(self.path):
                    os.fsync(file)
        finally:
            os.close(file)
        return crc

    def _put(self, file: int, data: memoryview, offset: int) -> None:
        with writing(self.path):
            while data:
                count = os.pwrite(file, data, offset)
                data, offset = data[count:], offset + count


def _bytes_of(piece: Data) -> memoryview:
    return (piece.data if isinstance(piece, np.ndarray) else memoryview(piece)).cast("B")


@dataclass(frozen=True)
class Entry:
    """Tensor to be written: name, dtype as safetensors calls it, shape, and size in bytes."""

    name:  str
    dtype: str
    shape: tuple[int, ...]
    size:  int

    @property
    def alignment(self) -> int:
        """Alignment of the first byte, in bytes."""
        return DTYPES[self.dtype].itemsize if self.dtype in DTYPES else 1


class ShardWriter:
    """Writer of one file, with tensors at fixed offsets and the header written last.

    Call :meth:`allocate` first. Then this process or other processes write the tensors. Tensors
    are sorted by falling alignment, so that each tensor can be memory-mapped.

    Parameters
    ----------
    path : Path
        The file.
    entries : iterable of Entry
        Tensors of the file.
    metadata : callable
        Function from CRC-32s by tensor name, eight hex digits each, to ``__metadata__``. The length
        of its result must not depend on the digits. See :func:`.seal` for the header's CRC-32.

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
        """Whether the file exists in full size, and so still holds tensors written earlier."""
        return self.path.is_file() and self.path.stat().st_size == self._end

    def allocate(self) -> None:
        """Extend the file to its full size. Bytes that are not written yet are zeros."""
        with writing(self.path), self.path.open("ab") as file:
            os.ftruncate(file.fileno(), self._end)

    def place(self, name: str) -> Place:
        """Return the range of bytes for a tensor."""
        return self._places[name]

    def write(self, name: str, pieces: Iterable[Data]) -> int:
        """Write a tensor, wait until it is on the disk, and return its CRC-32."""
        return self.place(name).write(pieces)

    def finish(self, checksums: dict[str, int], durable: bool = True) -> None:
        """Write the header, given the CRC-32 of every tensor by name: :meth:`Place.write`."""
        Place(self.path, 0, self._start).write([self._header(checksums)], durable)

    def _header(self, checksums: dict[str, int]) -> bytes:
        texts = {name: f"{crc:08x}" for name, crc in checksums.items()}
        header: dict[str, object] = {"__metadata__": self._metadata(texts)}
        offset = 0
        for entry in self._entries:
            header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape),
                                  "data_offsets": [offset, offset + entry.size]}
            offset += entry.size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + seal(text)


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str],
) -> dict[str, int]:
    """Write float32 arrays to one file, wait until it is on the disk, and return CRC-32s by name.

    Contiguous arrays are not copied.
    """
    entries = array_entries({name: values.shape for name, values in arrays.items()})
    writer = ShardWriter(path, entries, lambda _: dict(metadata))
    writer.allocate()
    checksums = {name: writer.write(name, [np.ascontiguousarray(values, "<f4")])
                 for name, values in arrays.items()}
    writer.finish(checksums)
    return checksums


def array_entries(shapes: Mapping[str, tuple[int, ...]]) -> list[Entry]:
    """Return the entries of float32 arrays with these shapes."""
    return [Entry(name, "F32", shape, 4 * math.prod(shape)) for name, shape in shapes.items()]


def write_shards(
    job: Job, shards: Iterable[tuple[ShardWriter, Mapping[str, Step]]],
    progress: Callable[[str], None] | None = None, run: Run = one_by_one,
) -> None:
    """Write files by running their steps, except steps that an earlier run of the job finished.

    Parameters
    ----------
    job : Job
        Job whose journal records the finished steps.
    shards : iterable
        Writer of each file, and the steps that write its tensors, by step name.
    progress : callable
        Called with each step name, in order, when the record of the step is on the disk.
    run : Run
        Function that runs the steps.
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
