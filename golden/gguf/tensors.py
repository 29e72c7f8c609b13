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
from tritstream.golden.fixed_point import GROUP, group_count
from tritstream.golden.gguf.block_types import TAIL
from tritstream.golden.gguf.reader import RawTensor
from tritstream.golden.gguf.ternary_blocks import UNDEFINED
from tritstream.golden.matrix import DirectMatrix
from tritstream.golden.row_chunks import row_chunks
from tritstream.golden.scales import DirectScales

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
        columns = self._row_sizes[1]
        with self.path.open("rb") as file:
            scale = self._scale(file) if self.raw.kind.single_scale else None
            for data in self._blocks(file):
                values = self._scaled(self._values(data), scale)
                yield self._in_order(values.reshape(-1, columns))

    def ternary(self) -> DirectMatrix | None:
        """Return levels and scales, or None if the type has no levels, or has level +2.

        Raises :class:`CheckpointError` for negative scales, and for a code without a meaning.
        """
        kind = self.raw.kind
        if not kind.levels or len(self.shape) != 2 or kind.weights % GROUP:
            return None
        rows, columns = self.shape
        q = np.zeros((rows, GROUP * group_count(columns)), np.int8)
        scales, first = [], 0
        with self.path.open("rb") as file:
            single = self._scale(file) if kind.single_scale else None
            for data in self._blocks(file):
                found, stored = kind.levels(data.reshape(-1, kind.size))
                if found.max() > 1:
                    self._check_defined(found)
                    return None
                levels = self._in_order(found.reshape(-1, columns))
                q[first:first + len(levels), :columns] = levels
                first += len(levels)
                scales.append(stored)
        return self._direct(q, np.concatenate(scales), single)

    def _direct(
        self, q: np.ndarray, scales: np.ndarray, single: np.float32 | None,
    ) -> DirectMatrix:
        rows, columns = self.shape
        group = self.raw.kind.weights if single is None else q.shape[1]
        stored = (self._in_order(scales.reshape(rows, -1)) if single is None
                  else np.array([[single]]))
        try:
            return DirectMatrix(1, (rows, columns), q, DirectScales(stored, rows), group)
        except ValueError as error:
            raise CheckpointError(f"{self.path}: {self.raw.name} cannot be packed: its {error}; "
                                  "copy the file again") from None

    @property
    def _row_sizes(self) -> tuple[int, int]:
        """Rows and columns of the matrix; a vector is a row, or a column if it is permuted."""
        rows = self.shape[0] if len(self.shape) > 1 or self.head > 1 else 1
        return rows, math.prod(self.shape) // rows

    def _blocks(self, file: BinaryIO) -> Iterator[np.ndarray]:
        """Yield the bytes of blocks of complete rows and heads: uint8."""
        rows, columns = self._row_sizes
        together = math.lcm(self.head, self.raw.kind.rows_together((rows, columns)))
        file.seek(self.raw.offset)
        for chunk in row_chunks(rows, columns, together):
            count = (chunk.stop - chunk.start) * columns // self.raw.kind.weights
            yield self._read(file, count * self.raw.kind.size)

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
        self._check_defined(values)
        return values * scale

    def _check_defined(self, levels: np.ndarray) -> None:
        if self.raw.kind.single_scale and (levels == UNDEFINED).any():
            raise CheckpointError(f"{self.path}: {self.raw.name} is {self.raw.kind.name} and has "
                                  "code 3, which has no meaning; the file is damaged, or its "
                                  "codes are in another order")

    def _in_order(self, rows: np.ndarray) -> np.ndarray:
        if self.head == 1:
            return rows
        pairs = rows.reshape(-1, self.head // 2, 2, rows.shape[-1])
        return pairs.swapaxes(1, 2).reshape(rows.shape)
