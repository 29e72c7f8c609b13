"""Shapes of published models: the sizes of their matrices and the form of their weights."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tritstream.golden.fixed_point import (
    DIRECT_MANTISSA_BITS,
    GROUP,
    MAX_K,
    TRITS_PER_BYTE,
    group_count,
    half_range,
    information_bits,
    piece_columns,
    stored_bits,
)
from tritstream.golden.model_sizes import QWEN25, TERNARY, Sizes
from tritstream.host.layout.folding import ScaleWords

__all__ = ["SHAPES", "ModelShape", "WeightForm", "model_shape"]


@dataclass(frozen=True)
class WeightForm:
    """Form of quantized weights.

    Members
    -------
    depth : int
        Trits per weight.
    group : int or None
        Consecutive weights of a row that share a scale, a multiple of 16; None is one scale per
        matrix.
    direct : bool
        Whether the scales are float16 numbers in place of codes.

    Raises :class:`ValueError` for a depth or a group that is not possible.
    """

    depth:  int = 3
    group:  int | None = GROUP
    direct: bool = False

    def __post_init__(self) -> None:
        half_range(self.depth)
        if self.group is not None and (self.group < GROUP or self.group % GROUP):
            raise ValueError(f"group must be a multiple of {GROUP}, not {self.group}")
        if self.group is None and not self.direct:
            raise ValueError("one scale per matrix is a direct scale; coded scales need a group")

    def group_of(self, columns: int) -> int:
        """Return the group length of a matrix with so many columns."""
        longest = GROUP * group_count(columns)
        return longest if self.group is None else min(self.group, longest)

    def scale_words(self, columns: int, max_k: int = MAX_K) -> ScaleWords:
        """Return the groups of GEMVs, as :func:`tritstream.host.layout.stored.scale_words`."""
        group = self.group_of(columns)
        return ScaleWords(piece_columns(self.depth, group, columns, max_k),
                          self.direct and self.group is not None and group < columns)

    def information_bits(self, shape: tuple[int, int]) -> float:
        """Return the information content in bits per weight of a matrix (N, K), scales included."""
        if not self.direct:
            return information_bits(self.depth, self.group_of(shape[1]))
        return math.log2(3) * self.depth + self._scale_bits(shape)

    def stored_bits(self, shape: tuple[int, int]) -> float:
        """Return stored bits per weight of a matrix (N, K) without padding and table."""
        if not self.direct:
            return stored_bits(self.depth, self.group_of(shape[1]))
        return 8 / TRITS_PER_BYTE * self.depth + self._scale_bits(shape)

    def _scale_bits(self, shape: tuple[int, int]) -> float:
        rows, columns = shape
        scales = 1 if self.group is None else rows * group_count(columns, self.group_of(columns))
        return DIRECT_MANTISSA_BITS * scales / (rows * columns)

    def __str__(self) -> str:
        scales = "direct" if self.direct else "coded"
        groups = "one scale per matrix" if self.group is None else (
            f"{scales} scales of {self.group} weights")
        return f"d = {self.depth}, {groups}"


@dataclass(frozen=True)
class ModelShape:
    """Matrices of a model as they are published.

    Members
    -------
    name : str
    sizes : Sizes
    form : WeightForm
        Form of the quantized weights.
    packed_head : bool
        Whether the head has this form too. Otherwise a host multiplies it.
    """

    name:        str
    sizes:       Sizes
    form:        WeightForm
    packed_head: bool = False

    def in_form(self, form: WeightForm) -> "ModelShape":
        """Return the same sizes with weights of another form."""
        return replace(self, form=form)

    def matrices(self, layers: int | None = None) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield names and shapes (N, K) of the matrices that a token needs, in their order.

        With ``layers``, only those of the first layers, and not the head.
        """
        for index in range(self.sizes.layers if layers is None else layers):
            for module, shape in self.sizes.layer(index).items():
                yield f"model.layers.{index}.{module}", shape
        if self.packed_head and layers is None:
            yield "lm_head", self.head

    @property
    def head(self) -> tuple[int, int]:
        """Shape (N, K) of the output head."""
        return self.sizes.vocabulary, self.sizes.hidden

    def layers(self) -> list[tuple[int, dict[str, tuple[int, int]]]]:
        """Return the kinds of layers: how many there are, and their shapes (N, K) by module."""
        found = Counter(tuple(self.sizes.layer(index).items())
                        for index in range(self.sizes.layers))
        return [(count, dict(shapes)) for shapes, count in found.items()]

    def modules(self) -> dict[tuple[str, tuple[int, int]], int]:
        """Return how many matrices of a token have a module name and a shape (N, K)."""
        found: Counter[tuple[str, tuple[int, int]]] = Counter()
        for count, shapes in self.layers():
            for key in shapes.items():
                found[key] += count
        if self.packed_head:
            found["lm_head", self.head] += 1
        return dict(found)

    @property
    def weights(self) -> int:
        """Packed weights that a token needs."""
        return sum(count * math.prod(shape) for (_, shape), count in self.modules().items())


def _shapes() -> Iterator[ModelShape]:
    for size, sizes in QWEN25.items():
        yield ModelShape(f"Qwen2.5-{size}", sizes, WeightForm())
    for name, sizes in TERNARY.items():
        # BitNet has one scale per matrix, and an unquantized embedding, which is the head as well.
        bitnet = name.startswith("BitNet")
        yield ModelShape(name, sizes, WeightForm(1, None if bitnet else 128, direct=True),
                         packed_head=not bitnet)


#: Shapes by name in lower case. Qwen2.5 is published unquantized: d = 3 is this project's choice.
SHAPES = {shape.name.lower(): shape for shape in _shapes()}


def model_shape(name: str) -> ModelShape:
    """Return the shape of a name in any case; raises :class:`ValueError` if there is none."""
    if name.lower() not in SHAPES:
        raise ValueError(f"no model {name!r}; there are {', '.join(SHAPES)}")
    return SHAPES[name.lower()]
