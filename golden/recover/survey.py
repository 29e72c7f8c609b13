"""Recovery of all matrices of a checkpoint, with the reasons for matrices that do not fit."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass

from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.recover import Attempt, Misfit, Recovery, Unfit, recover
from tritstream.golden.rounding import FORM
from tritstream.golden.row_chunks import in_threads

__all__ = ["Survey", "survey"]


@dataclass(frozen=True)
class Survey:
    """Result for one matrix: module name, stored dtype, shape (N, K), recovery or its failure."""

    name:    str
    dtype:   str
    shape:   tuple[int, ...]
    outcome: Recovery | Unfit

    @property
    def fits(self) -> bool:
        """Whether the matrix was recovered."""
        return isinstance(self.outcome, Recovery)

    def record(self) -> dict:
        """Return the result as JSON values."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> "Survey":
        """Return the result that :meth:`record` wrote."""
        fields = dict(record["outcome"])
        fields["attempts"] = tuple(Attempt(**attempt) for attempt in fields["attempts"])
        outcome: Recovery | Unfit
        if "table" in fields:
            outcome = Recovery(**fields | {"table": tuple(fields["table"])})
        else:
            outcome = Unfit(**fields)
        return cls(record["name"], record["dtype"], tuple(record["shape"]), outcome)


def survey(
    matrices: Mapping[str, SourceTensor], depths: Sequence[int], done: Mapping[str, Survey],
) -> Generator[Survey, None, None]:
    """Try to recover matrices, given by module name, at one of ``depths``; yield in their order.

    Results in ``done`` are reused. The form of the first matrix is tried first on the other
    matrices, one of which is in work per processor. Close the generator if you do not exhaust it.
    """
    def look(name: str, likely: str) -> Survey:
        return done.get(name) or _survey(name, matrices[name], depths, likely)

    first, *others = matrices
    result = look(first, FORM.name)
    yield result
    likely = result.outcome.form if isinstance(result.outcome, Recovery) else FORM.name
    yield from in_threads(lambda name: look(name, likely), others)


def _survey(name: str, tensor: SourceTensor, depths: Sequence[int], likely: str) -> Survey:
    weights = tensor.read()
    outcome: Recovery | Unfit
    try:
        outcome = recover(weights, tensor.name, depths, likely)
    except Misfit as error:
        outcome = error.unfit
    except ValueError as error:
        outcome = Unfit(str(error), 0)
    return Survey(name, tensor.dtype, tensor.shape, outcome)
