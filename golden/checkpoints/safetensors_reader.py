"""Reader of safetensors files from untrusted sources: checks every header before reading values.

The safetensors library (0.8) is not used here. It maps the complete file into memory, so that a
file that is cut short meanwhile ends the process by SIGBUS. It accepts repeated names and names
with control characters, and it cannot return BF16 as a numpy array. This reader opens the file for
each access, reads a few megabytes at a time, also checks the CRC-32 of the header of a packed
checkpoint, and raises one-line errors that name the file, the tensor and the cure.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tritstream.golden.checkpoints.diagnosis import about_file
from tritstream.golden.errors import CheckpointError, is_printable
from tritstream.golden.strict_json import parse_json

__all__ = [
    "DTYPES", "FLOATS", "HEADER_CHECKSUM", "GoneFile", "Shard", "Tensor", "is_file_name",
    "load_json", "seal",
]

#: Dtypes of numpy, by the names of the format.
DTYPES = {
    "BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype("<f2"), "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"), "BOOL": np.dtype("?"), "U8": np.dtype("u1"), "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"), "I16": np.dtype("<i2"), "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"), "U64": np.dtype("<u8"), "I64": np.dtype("<i8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn), "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}

#: Dtypes of matrices that can be quantized.
FLOATS = ("BF16", "F16", "F32")

#: Key of ``__metadata__`` with the CRC-32 of the header. Only packed checkpoints have it.
HEADER_CHECKSUM = "tritstream_header_crc32"

#: Bytes to read at a time when a tensor is copied or compared.
_PIECE = 1 << 22
#: Largest header in bytes, as in the safetensors library.
_MAX_HEADER = 100_000_000
#: Limits of numpy: number of dimensions, and of values, where an empty dimension counts as 1.
_MAX_DIMENSIONS, _MAX_VALUES = 64, 1 << 59


@dataclass(frozen=True)
class Tensor:
    """Tensor in a file, not yet read.

    Members
    -------
    name, dtype : str
        Name and dtype from the header. A tensor of an unknown dtype can be copied, but not read.
    shape : tuple
        Sizes, outermost first.
    path : Path
        The file.
    offset, size : int
        Position of the first byte in the file, and number of bytes.
    """

    name:   str
    dtype:  str
    shape:  tuple[int, ...]
    path:   Path
    offset: int
    size:   int

    def read(self) -> np.ndarray:
        """Return the values as a new array; raise :class:`CheckpointError` for an unknown dtype."""
        return self._read(0, self.shape)

    def read_rows(self, rows: slice) -> np.ndarray:
        """Return consecutive rows of a matrix as a new array (rows, K)."""
        return self._read(rows.start * self.shape[1], (rows.stop - rows.start, self.shape[1]))

    def _read(self, first: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of the values from index ``first`` on."""
        if self.dtype not in DTYPES:
            raise CheckpointError(f"{self.path}: {self.name} is {self.dtype}, which numpy cannot "
                                  "hold; convert it first")
        dtype = DTYPES[self.dtype]
        with self.path.open("rb") as file:
            file.seek(self.offset + first * dtype.itemsize)
            data = np.fromfile(file, dtype, math.prod(shape))
        self._check_read(data.nbytes, math.prod(shape) * dtype.itemsize)
        return data.reshape(shape)

    def pieces(self) -> Iterator[bytes]:
        """Yield the raw bytes, a few megabytes at a time."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for start in range(0, self.size, _PIECE):
                count = min(_PIECE, self.size - start)
                piece = file.read(count)
                self._check_read(start + len(piece), start + count)
                yield piece

    def _check_read(self, actual: int, expected: int) -> None:
        if actual != expected:
            raise CheckpointError(f"{self.path}: cut short while {self.name} was read; "
                                  "copy it again")


@dataclass(frozen=True)
class GoneFile:
    """What is known of a deleted safetensors file: header, and fingerprint as of a job.

    Members
    -------
    header : str
        The header, JSON.
    state : tuple of int
        Size in bytes, and modification time in nanoseconds.
    """

    header: str
    state:  tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> "GoneFile":
        """Return what is to be known of a file before it is deleted."""
        status = path.stat()
        return cls(_read_header(path).decode(), (status.st_size, status.st_mtime_ns))

    def is_state_of(self, path: Path) -> bool:
        """Return whether a file has this size and modification time."""
        status = path.stat()
        return (status.st_size, status.st_mtime_ns) == self.state


class Shard:
    """Header of one safetensors file, checked completely.

    A file that was deleted, which ``gone`` describes, has tensors that cannot be read.

    Raises :class:`CheckpointError` unless the header is complete and matches its CRC-32, if there
    is a CRC-32. The tensors must cover the rest of the file without gaps and overlaps, and the size
    of each tensor must match its dtype and shape.

    Members
    -------
    path : Path
        The file.
    metadata : dict
        Contents of ``__metadata__``: str to str.
    tensors : dict
        :class:`Tensor` by name, in the order of their bytes.
    """

    def __init__(self, path: Path, gone: GoneFile | None = None):
        self.path = path
        text = gone.header.encode() if gone else _read_header(path)
        self._start = 8 + len(text)
        header = _parse_header(path, text)
        self.metadata = _metadata(path, header.pop("__metadata__", {}))
        _check_seal(path, text, self.metadata)
        found = [self._tensor(name, entry) for name, entry in header.items()]
        found.sort(key=lambda tensor: (tensor.offset, tensor.size))
        self.tensors = {tensor.name: tensor for tensor in found}
        self._check_cover(found, gone.state[0] if gone else path.stat().st_size)

    def _tensor(self, name: str, entry: Any) -> Tensor:
        try:
            dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            numbers = [*shape, start, end]
            valid = isinstance(dtype, str) and all(type(n) is int and n >= 0 for n in numbers)
        except (KeyError, TypeError, ValueError):
            valid = False
        if not valid or end < start or not _is_sane(name, shape):
            raise CheckpointError(f"{self.path}: the header's entry of {name} is damaged; "
                                  "copy the file again")
        size = end - start
        if dtype in DTYPES and size != math.prod(shape) * DTYPES[dtype].itemsize:
            raise CheckpointError(f"{self.path}: {name} has {size} bytes, which is not "
                                  f"{dtype} {tuple(shape)}; copy the file again")
        return Tensor(name, dtype, tuple(shape), self.path, self._start + start, size)

    def _check_cover(self, tensors: list[Tensor], size: int) -> None:
        end = self._start
        for tensor in tensors:
            if tensor.offset != end:
                raise CheckpointError(f"{self.path}: {tensor.name} starts at byte {tensor.offset}, "
                                      f"not {end}; copy the file again")
            end += tensor.size
        if end != size:
            fault = "cut short" if size < end else "too long"
            raise CheckpointError(f"{self.path}: {fault}, {size} bytes instead of {end}; "
                                  "copy the file again")


def load_json(path: Path, finite: bool = True) -> dict:
    """Return the JSON object in a file, by :func:`tritstream.golden.strict_json.parse_json`.

    With ``finite``, NaN and infinities are invalid. Raises :class:`CheckpointError` if the file
    does not hold a JSON object.
    """
    try:
        data = path.read_bytes()
        value = parse_json(data, finite)
    except ValueError as error:
        advice = about_file(data) or f"not JSON ({error}); copy the file again"
        raise CheckpointError(f"{path}: {advice}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must hold a JSON object; copy the file again")
    return value


def seal(text: bytes) -> bytes:
    """Return a header with its CRC-32, computed while the eight digits of the CRC-32 are zeros."""
    return text.replace(_sealed("0" * 8), _sealed(f"{zlib.crc32(text):08x}"), 1)


def is_file_name(name: Any) -> bool:
    """Return whether a name is a plain file name, which cannot refer to another directory."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _read_header(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(256)
        length = int.from_bytes(head[:8], "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            advice = about_file(head) or ("cut short within its header, or not safetensors; copy "
                                          "the file again")
            raise CheckpointError(f"{path}: {advice}")
        file.seek(8)
        return file.read(length)


def _parse_header(path: Path, text: bytes) -> dict:
    try:
        header = parse_json(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its header is not a JSON object; copy the file again")
    return header


def _metadata(path: Path, metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError(f"{path}: __metadata__ must map text to text; copy the file again")
    return metadata


def _is_sane(name: str, shape: list[int]) -> bool:
    """Return whether a name is safe to print, and a shape within the limits of numpy."""
    return (is_printable(name) and len(shape) <= _MAX_DIMENSIONS
            and math.prod(max(1, size) for size in shape) < _MAX_VALUES)


def _sealed(checksum: str) -> bytes:
    return f'"{HEADER_CHECKSUM}":"{checksum}"'.encode()


def _check_seal(path: Path, text: bytes, metadata: dict[str, str]) -> None:
    if HEADER_CHECKSUM not in metadata:
        return
    field = _sealed(metadata[HEADER_CHECKSUM])
    if field not in text or seal(text.replace(field, _sealed("0" * 8), 1)) != text:
        raise CheckpointError(f"{path}: its header does not fit its CRC-32; copy the file again")
