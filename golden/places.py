"""Places in files: where the bytes of a tensor go, written by whoever made them."""

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from golden.writing import writing

__all__ = ["Place"]

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

        Raises :class:`golden.shards.CheckpointError` when the disk does not take them.
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
