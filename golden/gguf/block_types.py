"""Types of blocks in GGUF files, by number: those of the package gguf, and published ternary ones.

A number may stand for several types. Then the bytes that a tensor takes show which one it is: type
42 has 64 weights per block in llama.cpp, and 128 in older files of Prism.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from tritstream.golden.gguf import ternary_blocks as ternary

__all__ = ["TAIL", "BlockType", "types_of"]

#: Bytes after the blocks of a tensor with a single scale: the scale in float32, and zeros.
TAIL = 32


@dataclass(frozen=True)
class BlockType:
    """Type of a tensor's blocks.

    Members
    -------
    name : str
        Name in llama.cpp, or in the fork that writes it.
    weights, size : int
        Weights and bytes per block; 0 bytes if they are not known.
    values : callable or None
        Dequantizes blocks: uint8 (n, size) to float32 (n, weights). None if the type is plain, or
        cannot be read.
    levels : callable or None
        Returns levels -1, 0, 1 and scales of ternary blocks, as :mod:`.ternary_blocks` does.
    dtype : str or None
        Dtype of a plain type, as safetensors calls it.
    single_scale : bool
        Whether the blocks are cut from the flattened tensor, so that they may cross rows, and
        share one scale in ``TAIL`` bytes after them.
    advice : str
        Advice for a type that cannot be read.
    """

    name:    str
    weights: int
    size:    int
    values:  Callable[[np.ndarray], np.ndarray] | None = None
    levels:  Callable[[np.ndarray], ternary.Blocks] | None = None
    dtype:   str | None = None
    single_scale: bool = False
    advice:  str = "convert the model to another type"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether complete blocks cover a tensor of this shape."""
        return not (math.prod(shape) if self.single_scale else shape[-1]) % self.weights

    def bytes_of(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a tensor of a shape that this type :meth:`fits`."""
        blocks = math.prod(shape) // self.weights * self.size
        return blocks + (TAIL if self.single_scale else 0)

    def rows_together(self, shape: tuple[int, ...]) -> int:
        """Return how many rows of a tensor are complete blocks."""
        return self.weights // math.gcd(self.weights, shape[-1])


def types_of(number: int, architecture: object) -> tuple[BlockType, ...]:
    """Return the types that a number may stand for in a file of an architecture; () if unknown."""
    if number == GGMLQuantizationType.MXFP4 and str(architecture).startswith("bitnet"):
        return (_TL2,)
    return _TYPES.get(number, ())


def _of_gguf(kind: GGMLQuantizationType) -> BlockType:
    weights, size = GGML_QUANT_SIZES[kind]
    if kind.name in ("F32", "F16", "BF16"):
        return BlockType(kind.name, weights, size, dtype=kind.name)
    values = partial(_dequantize, kind)
    try:
        values(np.zeros((1, size), np.uint8))       # gguf has no list of the types it dequantizes
    except NotImplementedError:
        return BlockType(kind.name, weights, size)
    return BlockType(kind.name, weights, size, values)


def _dequantize(kind: GGMLQuantizationType, blocks: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return dequantize(blocks, kind)


def _ternary(
    name: str, weights: int, size: int, levels: Callable[[np.ndarray], ternary.Blocks],
    single_scale: bool = False,
) -> BlockType:
    return BlockType(name, weights, size, partial(_scaled, levels), levels,
                     single_scale=single_scale)


def _scaled(levels: Callable[[np.ndarray], ternary.Blocks], blocks: np.ndarray) -> np.ndarray:
    found, scales = levels(blocks)
    return found * scales.astype(np.float32)[:, None]


_TO_I2_S = "convert the original checkpoint to I2_S, or use the original in safetensors"
_TL2 = BlockType("TL2", 1, 0, advice=_TO_I2_S)
_STQ1_0 = BlockType("STQ1_0", 256, 42)
_TYPES: dict[int, tuple[BlockType, ...]] = {
    **{kind.value: (_of_gguf(kind),) for kind in GGMLQuantizationType},
    34: (_ternary("TQ1_0", 256, 54, ternary.tq1_0),),
    35: (_ternary("TQ2_0", 256, 66, ternary.tq2_0),),
    36: (_ternary("I2_S", 128, 32, ternary.i2_s, single_scale=True),),
    38: (BlockType("TL1", 1, 0, advice=_TO_I2_S),),
    41: (_ternary("Q1_0", 128, 18, ternary.q1_0),),
    42: (_ternary("Q2_0", 64, 18, ternary.q2_0), _ternary("Q2_0", 128, 34, ternary.q2_0), _STQ1_0),
    43: (_STQ1_0,),
    142: (_ternary("PQ2_0", 128, 34, ternary.q2_0),),
    143: (_ternary("PTQ1_0", 128, 28, ternary.ptq1_0),),
}
