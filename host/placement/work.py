"""Matrices of a model in the order in which a token needs them, as far as placement needs them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from tritstream.golden.fixed_point import (
    GROUP,
    MAX_K,
    SCALE_TRITS,
    check_group,
    group_count,
    half_range,
    piece_columns,
    row_tiles,
)
from tritstream.golden.packed.reader import MatrixInfo, PackedCheckpoint
from tritstream.golden.packed_matrix import PackedMatrix, StoredMatrix
from tritstream.host.layout.folding import ScaleWords
from tritstream.host.layout.stored import scale_words
from tritstream.hw.protocol import DIRECT_WORDS

__all__ = ["EXPERT_COUNTS", "Span", "Step", "Work", "at_depth", "steps_of_checkpoint",
           "steps_of_shapes"]

#: Modules that read the same vector. A model multiplies by the others of a layer one by one.
_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"),
             ("in_proj_qkv", "in_proj_z"))
#: Names of the number of experts to which a router sends a token, in configurations.
EXPERT_COUNTS = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk",
                 "moe_k", "top_k")

_EXPERT = re.compile(r"\.experts\.(?:\w+\.)?(\d+)(?:\.|$)")


@dataclass(frozen=True)
class Span:
    """Part of a matrix: a range of row tiles, and a range of chunks of 16 columns."""

    tiles:  range
    chunks: range

    def __str__(self) -> str:
        return (f"[{self.tiles.start}:{self.tiles.stop}, {self.chunks.start}:{self.chunks.stop}]")


@dataclass(frozen=True)
class Work:
    """A matrix as placement knows it.

    Members
    -------
    name : str
        Module name.
    shape : tuple
        Rows N and columns K, without padding.
    depth, group : int
        Trits per weight, and columns per scale.
    direct : bool
        Whether a device multiplies by mantissas of its own per row and group.

    Raises :class:`ValueError` for a depth or group that no matrix of this shape has.
    """

    #: Not compared, so that what is known of a matrix holds for all of its form.
    name:   str = field(compare=False)
    shape:  tuple[int, int]
    depth:  int
    group:  int = GROUP
    direct: bool = False

    def __post_init__(self) -> None:
        half_range(self.depth)
        check_group(self.group, self.shape[1])

    @classmethod
    def of(cls, info: MatrixInfo) -> "Work":
        """Return a matrix of a packed checkpoint."""
        group = info.layout.group
        return cls(info.name, info.shape, info.depth, group,
                   info.layout.direct and group_count(info.shape[1], group) > 1)

    @classmethod
    def of_stored(cls, matrix: StoredMatrix, name: str = "") -> "Work":
        """Return a matrix as packed checkpoints store it."""
        if isinstance(matrix, PackedMatrix):
            direct = scale_words(matrix, MAX_K).direct
            return cls(name, matrix.shape, matrix.depth, matrix.group, direct)
        _, _, depth, (rows, columns) = matrix
        return cls(name, (rows, columns), depth)

    @property
    def span(self) -> Span:
        """The complete matrix."""
        return Span(range(row_tiles(self.shape[0])), range(group_count(self.shape[1])))

    @property
    def step(self) -> int:
        """Chunks between two places where columns may be cut.

        A part starts with a group, so that pieces of groups have their scales whatever their
        length is. If a row is one group, its pieces have one scale.
        """
        return 1 if self.group >= self.shape[1] else self.group // GROUP

    @property
    def nbytes(self) -> int:
        """Bytes of the trits and scales in row tiles, without the padding of lanes."""
        chunks, groups = (group_count(self.shape[1], size) for size in (GROUP, self.group))
        scales = groups * (DIRECT_WORDS if self.direct else SCALE_TRITS)
        return row_tiles(self.shape[0]) * (GROUP * self.depth * chunks + scales)

    def scales(self, max_k: int) -> ScaleWords:
        """Return groups and scales of the words for a device of this max K."""
        columns = piece_columns(self.depth, self.group, self.shape[1], max_k)
        return ScaleWords(columns, self.direct)


@dataclass(frozen=True)
class Step:
    """Matrices that read the same vector and are multiplied together: one round trip.

    Members
    -------
    layer : str
        Name of the layer, or of the module if it is in no layer.
    works : tuple of Work
    uses : float
        How often a token needs the step on average: below 1 for experts, 0 for an embedding.
    """

    layer: str
    works: tuple[Work, ...]
    uses:  float = 1.0


def steps_of_shapes(
    shapes: Mapping[str, tuple[int, int]], depth: int, group: int | None = GROUP,
    direct: bool = False,
) -> list[Step]:
    """Return the steps of matrices (N, K) by module name, in the order in which a token needs them.

    The matrices have ``depth`` trits per weight and a scale per ``group`` columns, or per row if
    ``group`` is None or a row is shorter. Raises :class:`ValueError` for a depth or group that does
    not exist.
    """
    works = []
    for name, shape in shapes.items():
        row = GROUP * group_count(shape[1])
        length = row if group is None else min(group, row)
        works.append(Work(name, shape, depth, length, direct and length < shape[1]))
    return list(_steps(works, {}))


def steps_of_checkpoint(checkpoint: PackedCheckpoint, names: Iterable[str]) -> list[Step]:
    """Return the steps of some matrices of a packed checkpoint.

    Modules that read the same vector are known by their names: q, k and v; gate and up. Others
    count as a step each, which may be a round trip more than the driver takes. A token needs an
    embedding only if the head shares it. Of experts, a token needs as many as config.json says, or
    all.
    """
    infos  = [checkpoint.matrices[name] for name in names]
    config = {**checkpoint.config, **checkpoint.config.get("text_config", {})}
    uses   = _expert_uses([info.name for info in infos], config)
    if not config.get("tie_word_embeddings", False):
        uses |= {info.name: 0.0 for info in infos if info.name.endswith("embed_tokens")}
    return list(_steps(sorted(map(Work.of, infos), key=lambda work: _order(work.name)), uses))


def at_depth(steps: Iterable[Step], most: int) -> list[Step]:
    """Return the steps with at most so many trits per weight."""
    return [replace(step, works=tuple(replace(work, depth=min(work.depth, most))
                                      for work in step.works)) for step in steps]


def _steps(works: Iterable[Work], uses: Mapping[str, float]) -> Iterator[Step]:
    for (layer, _), some in groupby(works, lambda work: (_layer(work.name), _input(work.name))):
        together = tuple(some)
        yield Step(layer, together, uses.get(together[0].name, 1.0))


def _layer(name: str) -> str:
    """Return the name up to the first number, such as ``model.layers.3``."""
    found = re.match(r".*?\.\d+(?=\.)", name)
    return found[0] if found else name


def _input(name: str) -> str:
    """Return a name that modules with the same input share."""
    parent, _, last = name.rpartition(".")
    for siblings in _SIBLINGS:
        if last in siblings:
            return f"{parent}.{siblings[0]}"
    return name


def _order(name: str) -> tuple[bool, str, list[int], str]:
    """Sort layers by their numbers, and siblings next to each other; the head is the last."""
    numbers = [int(number) for number in re.findall(r"(?<=\.)\d+(?=\.)", name)]
    return not numbers, re.split(r"\.\d+\.", name)[0], numbers, _input(name)


def _expert_uses(names: Sequence[str], config: Mapping) -> dict[str, float]:
    """Return the share of tokens that need each expert, by the names of its matrices."""
    numbers = {name: int(found[1]) for name in names if (found := _EXPERT.search(name))}
    count = max(numbers.values(), default=0) + 1
    routed = next((config[key] for key in EXPERT_COUNTS if isinstance(config.get(key), int)), count)
    return dict.fromkeys(numbers, min(1.0, routed / count))
