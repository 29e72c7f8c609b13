"""Tensors of GGUF files, with dequantized blocks and rows in the order of Hugging Face."""

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

#: Types that are not converted. Other types become float32, which holds their values exactly.
_PLAIN = {GGMLQuantizationType.F32: "F32", GGMLQuantizationType.F16: "F16",
          GGMLQuantizationType.BF16: "BF16"}


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
        if not _is_known(self.raw.kind):
            raise CheckpointError(f"{self.path}: {self.raw.name} is {self.raw.kind.name}, which "
                                  "gguf does not dequantize; convert the model to another type")
        if self.head > 1 and len(self.shape) == 1 and self.raw.kind not in _PLAIN:
            raise CheckpointError(f"{self.path}: {self.raw.name} is {self.raw.kind.name}, whose "
                                  "blocks hold permuted values; convert the model to another type")

    @property
    def dtype(self) -> str:
        """Dtype of :meth:`read`, as safetensors calls it."""
        return _PLAIN.get(self.raw.kind, "F32")

    @property
    def dequantized(self) -> bool:
        """Whether the values are stored in blocks, and float32 is only their dequantized form."""
        return self.raw.kind not in _PLAIN

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, outermost first."""
        return self.raw.shape

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield dequantized rows in Hugging Face's order; for a permuted vector, its elements."""
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
    """Return whether gguf can dequantize a type, tried on zeros because gguf has no list."""
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True
