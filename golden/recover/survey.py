"""Recovery of all matrices of a checkpoint, with the reasons for matrices that do not fit."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.source_tensor import SourceTensor, Ternary
from tritstream.golden.matrix import DirectMatrix
from tritstream.golden.packed.layout import DIRECT, INVERSE, Layout
from tritstream.golden.recover import Attempt, Misfit, Recovery, Unfit, recover
from tritstream.golden.rounding import FORM
from tritstream.golden.row_chunks import in_threads

__all__ = ["Stated", "Survey", "survey"]

#: Names of dtypes in safetensors, by dtype.
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Stated:
    """A matrix whose source states levels and scales, so that nothing has to be recovered.

    Members
    -------
    depth : int
        Trits per weight.
    form : str
        Name of the form of the weights.
    group : int
        Weights of a row that share a scale.
    kind : str
        Kind of the scales, one of :data:`.KINDS`.
    scale_dtype : str
        Dtype of the scales, as safetensors calls it.
    single : bool
        Whether one scale serves the complete matrix.
    scales : int
        Number of different scales other than zero.
    negative_zeros : int
        Number of weights that are a negative zero: none.
    """

    depth:       int
    form:        str
    group:       int
    kind:        str
    scale_dtype: str
    single:      bool
    scales:      int
    negative_zeros: int = 0

    @classmethod
    def of(cls, matrix: DirectMatrix) -> "Stated":
        """Return the figures of a matrix."""
        stored, inverse = matrix.scales.stored, matrix.scales.inverse
        different = np.unique(stored[stored > 0]).size
        return cls(matrix.depth, matrix.form.name, matrix.group, INVERSE if inverse else DIRECT,
                   _NAMES[stored.dtype], stored.shape == (1, 1), int(different))

    @property
    def distinct(self) -> int:
        """Number of distinct magnitudes of weights except zero, which are the scales."""
        return self.scales

    @property
    def layout(self) -> Layout:
        """Layout in a packed checkpoint."""
        return Layout(self.group, self.kind, self.scale_dtype, self.single)


@dataclass(frozen=True)
class Survey:
    """Result for one matrix: module name, dtype, shape (N, K), and how it was found, or not."""

    name:    str
    dtype:   str
    shape:   tuple[int, ...]
    outcome: Recovery | Stated | Unfit

    @property
    def fits(self) -> bool:
        """Whether the matrix can be packed without loss."""
        return isinstance(self.outcome, Recovery | Stated)

    def record(self) -> dict:
        """Return the result as JSON values."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> "Survey":
        """Return the result that :meth:`record` wrote."""
        fields = dict(record["outcome"])
        if "kind" in fields:
            return cls(record["name"], record["dtype"], tuple(record["shape"]), Stated(**fields))
        fields["attempts"] = tuple(Attempt(**attempt) for attempt in fields["attempts"])
        outcome: Recovery | Unfit
        if "table" in fields:
            outcome = Recovery(**fields | {"table": tuple(fields["table"])})
        else:
            outcome = Unfit(**fields)
        return cls(record["name"], record["dtype"], tuple(record["shape"]), outcome)


def survey(
    matrices: Mapping[str, SourceTensor], depths: Sequence[int], done: Mapping[str, Survey],
    first: Survey | None = None,
) -> Generator[Survey, None, None]:
    """Try to recover matrices, given by module name, at one of ``depths``; yield in their order.

    A matrix whose source states levels and scales is taken as it is if depth 1 is in ``depths``.

    Results in ``done`` are reused. The form of the first matrix of a checkpoint is tried first on
    the other matrices, one of which is in work per processor. ``first`` is the result for that
    matrix, if it is not in ``matrices``. Close the generator if you do not exhaust it.
    """
    def look(name: str, likely: str) -> Survey:
        return done.get(name) or _survey(name, matrices[name], depths, likely)

    names = list(matrices)
    if first is None and names:
        first = look(names.pop(0), FORM.name)
        yield first
    if first and names:
        likely = FORM.name if isinstance(first.outcome, Unfit) else first.outcome.form
        yield from in_threads(lambda name: look(name, likely), names)


def _survey(name: str, tensor: SourceTensor, depths: Sequence[int], likely: str) -> Survey:
    outcome: Recovery | Stated | Unfit
    if 1 in depths and isinstance(tensor, Ternary) and (matrix := tensor.ternary()):
        return Survey(name, tensor.dtype, tensor.shape, Stated.of(matrix))
    weights = tensor.read()
    try:
        outcome = recover(weights, tensor.name, depths, likely)
    except Misfit as error:
        outcome = error.unfit
    except ValueError as error:
        outcome = Unfit(str(error), 0)
    return Survey(name, tensor.dtype, tensor.shape, outcome)
