"""Layouts: which tensors of a file hold a packed matrix, and the shapes of these tensors."""

import math
from dataclasses import dataclass

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.safetensors_writer import Entry
from tritstream.golden.fixed_point import (
    GROUP,
    SCALE_TRITS,
    SCALES,
    check_group,
    group_count,
    information_bits,
    row_tiles,
    tiles_shape,
)
from tritstream.golden.quantizers.grouping import Grouping
from tritstream.golden.scales import CODED, DIRECT, INVERSE, KINDS
from tritstream.golden.tiles import trits_shape

__all__ = ["CODED", "CODES_SUFFIX", "DIRECT", "INVERSE", "KINDS", "SCALES_SUFFIX", "TILES",
           "TRITS_SUFFIX", "Layout"]

TRITS_SUFFIX = ".trits"
SCALES_SUFFIX = ".scales"
CODES_SUFFIX = ".codes"


@dataclass(frozen=True)
class Layout:
    """Group length and kind of scales of a packed matrix, and the tensors that hold it.

    Members
    -------
    group : int
        Consecutive weights of a row that share a scale.
    kind : str or None
        One of :data:`KINDS`, or None for tiles of groups of 16 with coded scales.
    dtype : str
        Dtype of direct scales, as safetensors calls it.
    single : bool
        Whether one direct scale serves the complete matrix.
    """

    group:  int = GROUP
    kind:   str | None = None
    dtype:  str = "F32"
    single: bool = False

    @property
    def direct(self) -> bool:
        """Whether scales are numbers of the source."""
        return self.kind in (DIRECT, INVERSE)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the names of the tensors, in the order of a file."""
        return (TRITS_SUFFIX, SCALES_SUFFIX, *([CODES_SUFFIX] if self.kind == CODED else []))

    def marks(self) -> dict[str, str | int]:
        """Return the layout as metadata fields of a matrix, empty for tiles."""
        return {"group": self.group, "scales": self.kind} if self.kind else {}

    @classmethod
    def of(cls, grouping: Grouping, columns: int) -> "Layout":
        """Return the layout of a matrix that is quantized, with so many columns."""
        group = grouping.length(columns)
        if grouping.scales == DIRECT:
            return cls(group, DIRECT, "F16")
        return cls(group, CODED) if group > GROUP else TILES

    def entries(self, name: str, shape: tuple[int, int], depth: int) -> tuple[Entry, ...]:
        """Return the tensors of a matrix (N, K) of a module name.

        Raises :class:`ValueError` for a group that does not go with the shape.
        """
        check_group(self.group, shape[1])
        groups = group_count(shape[1], self.group)
        trits = trits_shape(shape, depth) if self.kind else tiles_shape(shape, depth)
        scales = (1 if self.single else shape[0], groups) if self.direct else (SCALES,)
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            TRITS_SUFFIX: ("U8", trits), SCALES_SUFFIX: (self.dtype, scales),
            CODES_SUFFIX: ("U8", (row_tiles(shape[0]), groups, SCALE_TRITS))}
        return tuple(_entry(name + suffix, *shapes[suffix]) for suffix in self.suffixes)

    def size(self, shape: tuple[int, int], depth: int) -> int:
        """Return the bytes of all tensors of a matrix (N, K)."""
        return sum(entry.size for entry in self.entries("", shape, depth))

    def weight_bits(self, shape: tuple[int, int], depth: int) -> float:
        """Return the bits per weight of a matrix (N, K), padding included, table not."""
        table = 0 if self.direct else 4 * SCALES
        return 8 * (self.size(shape, depth) - table) / math.prod(shape)

    def information_bits(self, shape: tuple[int, int], depth: int) -> float:
        """Return the information content in bits per weight, scales included."""
        if not self.direct:
            return information_bits(depth, self.group)
        numbers = 1 if self.single else shape[0] * group_count(shape[1], self.group)
        bits = 8 * DTYPES[self.dtype].itemsize * numbers / math.prod(shape)
        return math.log2(3) * depth + bits


#: Layout of matrices without marks.
TILES = Layout()


def _entry(name: str, dtype: str, shape: tuple[int, ...]) -> Entry:
    return Entry(name, dtype, shape, math.prod(shape) * DTYPES[dtype].itemsize)
