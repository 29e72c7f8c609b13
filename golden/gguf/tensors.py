"""Tensors of GGUF files: blocks dequantized, rows in the order of Hugging Face."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from tritstream.golden.checkpoints.computed_tensor import ChunkedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.reader import RawTensor
from tritstream.golden.row_chunks import row_chunks

__all__ = ["GgufTensor"]

#: Types kept as they are; all others become float32, which holds their values exactly.
_PLAIN = {GGMLQuantizationType.F32: "F32", GGMLQuantizationType.F16: "F16",
          GGMLQuantizationType.BF16: "BF16"}


@dataclass(frozen=True)
class GgufTensor(ChunkedTensor):
    """A tensor of a GGUF file as a checkpoint of Hugging Face would have it.

    Members
    -------
    name : str
        As Hugging Face calls it.
    path : Path
        The file.
    raw : RawTensor
        Where and what it is there.
    head : int
        Rows of a head that llama.cpp has permuted, 1 where it has not: it stores the two halves of
        a head interleaved.
    """

    name: str
    path: Path
    raw:  RawTensor
    head: int = 1

    def __post_init__(self):
        if not _is_known(self.raw.kind):
            raise CheckpointError(f"{self.path}: {self.raw.name} is {self.raw.kind.name}, which "
                                  "gguf does not dequantize; convert the model to another type")
        if self.head > 1 and len(self.shape) == 1 and self.raw.kind not in _PLAIN:
            raise CheckpointError(f"{self.path}: {self.raw.name} is {self.raw.kind.name}, whose "
                                  "blocks hold permuted values; convert the model to another type")

    @property
    def dtype(self) -> str:
        """What safetensors calls the dtype of :meth:`read`."""
        return _PLAIN.get(self.raw.kind, "F32")

    @property
    def dequantized(self) -> bool:
        """Whether float32 is only the form of values that are stored in blocks."""
        return self.raw.kind not in _PLAIN

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, outermost first."""
        return self.raw.shape

    def chunks(self) -> Iterator[np.ndarray]:
        """Rows, dequantized and in order; those of a vector are its elements."""
        rows = self.shape[0] if len(self.shape) > 1 or self.head > 1 else 1
        columns = math.prod(self.shape) // rows
        with self.path.open("rb") as file:
            file.seek(self.raw.offset)
            for chunk in row_chunks(rows, columns, self.head):
                count = chunk.stop - chunk.start
                data = np.fromfile(file, np.uint8, count * (self.raw.size // rows))
                if data.size != count * (self.raw.size // rows):
                    raise CheckpointError(f"{self.path}: cut short while {self.raw.name} was read; "
                                          "copy it again")
                yield self._in_order(self._values(data.reshape(count, -1)))

    def _values(self, data: np.ndarray) -> np.ndarray:
        if self.raw.kind in _PLAIN:
            return data.view(DTYPES[self.dtype])
        with np.errstate(all="ignore"):
            return dequantize(data, self.raw.kind)

    def _in_order(self, rows: np.ndarray) -> np.ndarray:
        if self.head == 1:
            return rows
        pairs = rows.reshape(-1, self.head // 2, 2, rows.shape[-1])
        return pairs.swapaxes(1, 2).reshape(rows.shape)


@cache
def _is_known(kind: GGMLQuantizationType) -> bool:
    """Whether values of this type can be had: tried on a block of zeros, as gguf has no list."""
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True
