"""What the matrices of a checkpoint were made of, or why they do not fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.recover import Attempt, Misfit, Recovery, Unfit, recover
from tritstream.golden.rounding import FORM
from tritstream.golden.row_chunks import in_threads

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


def survey(
    matrices: Mapping[str, SourceTensor], depths: Sequence[int], done: Mapping[str, Survey],
) -> Iterator[Survey]:
    """Try to recover matrices, by module name, at one of these depths; in their order.

    Those that are ``done`` are taken from there. The form of the first is the likely one of the
    others, of which one for each processor is in work: close what you do not exhaust.
    """
    def look(name: str, likely: str) -> Survey:
        return done.get(name) or _survey(name, matrices[name], depths, likely)

    first, *others = matrices
    found = look(first, FORM.name)
    yield found
    likely = found.outcome.form if found.fits else FORM.name
    yield from in_threads(lambda name: look(name, likely), others)


def _survey(name: str, tensor: SourceTensor, depths: Sequence[int], likely: str) -> Survey:
    weights = tensor.read()
    try:
        outcome = recover(weights, tensor.name, depths, likely)
    except Misfit as error:
        outcome = error.unfit
    except ValueError as error:
        outcome = Unfit(str(error), 0)
    return Survey(name, tensor.dtype, tensor.shape, outcome)
