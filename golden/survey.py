"""What the matrices of a checkpoint were made of, or why they do not fit."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from golden.recover import Attempt, Misfit, Recovery, Unfit, recover
from golden.sources import SourceTensor

__all__ = ["Survey", "survey"]


@dataclass(frozen=True)
class Survey:
    """One matrix: module name, stored dtype, shape (N, K), and what became of its recovery."""

    name:    str
    dtype:   str
    shape:   tuple[int, int]
    outcome: Recovery | Unfit

    @property
    def fits(self) -> bool:
        """Whether it was recovered."""
        return isinstance(self.outcome, Recovery)

    def record(self) -> dict:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> "Survey":
        """Reverse of :meth:`record`."""
        outcome = dict(record["outcome"])
        outcome["attempts"] = tuple(Attempt(**attempt) for attempt in outcome["attempts"])
        if "table" in outcome:
            outcome = Recovery(**outcome | {"table": tuple(outcome["table"])})
        else:
            outcome = Unfit(**outcome)
        return cls(record["name"], record["dtype"], tuple(record["shape"]), outcome)


def survey(name: str, tensor: SourceTensor, depths: Sequence[int]) -> Survey:
    """Try to recover a matrix at one of these depths."""
    weights = tensor.read()
    try:
        outcome = recover(weights, tensor.name, depths)
    except Misfit as error:
        outcome = error.unfit
    except ValueError as error:
        outcome = Unfit(str(error), 0)
    return Survey(name, tensor.dtype, tensor.shape, outcome)
