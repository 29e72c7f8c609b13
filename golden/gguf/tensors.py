"""Tensors of GGUF files, with dequantized blocks and rows in the order of Hugging Face."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.block_types import TAIL
from tritstream.golden.gguf.reader import RawTensor
from tritstream.golden.gguf.ternary_blocks import UNDEFINED
from tritstream.golden.row_chunks import row_chunks

__all__ = ["GgufTensor"]


@dataclass(frozen=True)
class GgufTensor(ChunkedTensor):
    """Tensor of a GGUF file as a SourceTensor with Hugging Face's name and order of rows.

    Members
    -------
    name : str
        Hugging Face's name of the tensor.
    path : Path
        The GGUF file.
    raw : RawTensor
        Name, type, shape and position in the file.
    head : int
        Rows per head if llama.cpp permuted the rows, else 1. llama.cpp interleaves the two halves
        of a head.
    """

    name: str
    path: Path
    raw:  RawTensor
    head: int = 1

    def __post_init__(self):
        kind, place = self.raw.kind, f"{self.path}: {self.raw.name} is {self.raw.kind.name}"
        if not kind.dtype and not kind.values:
            raise CheckpointError(f"{place}, which is not supported; {kind.advice}")
        if self.head > 1 and len(self.shape) == 1 and self.dequantized:
            raise CheckpointError(f"{place}, whose blocks hold permuted values; convert the model "
                                  "to another type")

    @property
    def dtype(self) -> str:
        """Dtype of :meth:`read`, as safetensors calls it. Blocks become float32, exactly."""
        return self.raw.kind.dtype or "F32"

    @property
    def dequantized(self) -> bool:
        """Whether the values are stored in blocks, and float32 is only their dequantized form."""
        return not self.raw.kind.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, outermost first."""
        return self.raw.shape

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield dequantized rows in Hugging Face's order; for a permuted vector, its elements."""
        rows = self.shape[0] if len(self.shape) > 1 or self.head > 1 else 1
        columns = math.prod(self.shape) // rows
        together = math.lcm(self.head, self.raw.kind.rows_together((rows, columns)))
        with self.path.open("rb") as file:
            scale = self._scale(file) if self.raw.kind.single_scale else None
            file.seek(self.raw.offset)
            for chunk in row_chunks(rows, columns, together):
                count = (chunk.stop - chunk.start) * columns // self.raw.kind.weights
                values = self._values(self._read(file, count * self.raw.kind.size))
                yield self._in_order(self._scaled(values, scale).reshape(-1, columns))

    def _read(self, file: BinaryIO, size: int) -> np.ndarray:
        data = np.fromfile(file, np.uint8, size)
        if data.size != size:
            raise CheckpointError(f"{self.path}: cut short while {self.raw.name} was read; copy it "
                                  "again")
        return data

    def _values(self, data: np.ndarray) -> np.ndarray:
        if not self.raw.kind.values:
            return data.view(DTYPES[self.dtype])
        return self.raw.kind.values(data.reshape(-1, self.raw.kind.size))

    def _scale(self, file: BinaryIO) -> np.float32:
        """Return the scale after the blocks of the tensor."""
        file.seek(self.raw.offset + self.raw.size - TAIL)
        return self._read(file, 4).view("<f4")[0]

    def _scaled(self, values: np.ndarray, scale: np.float32 | None) -> np.ndarray:
        if scale is None:
            return values
        if (values == UNDEFINED).any():
            raise CheckpointError(f"{self.path}: {self.raw.name} is {self.raw.kind.name} and has "
                                  "code 3, which has no meaning; the file is damaged, or its "
                                  "codes are in another order")
        return values * scale

    def _in_order(self, rows: np.ndarray) -> np.ndarray:
        if self.head == 1:
            return rows
        pairs = rows.reshape(-1, self.head // 2, 2, rows.shape[-1])
        return pairs.swapaxes(1, 2).reshape(rows.shape)
