"""What a model does with the input vectors of its matrices before they are multiplied."""

from collections.abc import Container
from dataclasses import dataclass

from tritstream.golden.activation import SYMMETRIC

__all__ = ["Inputs"]


@dataclass(frozen=True)
class Inputs:
    """Preparation of the input vectors of a model's matrices.

    Members
    -------
    activations : str
        Rule by which they become int8, one of :data:`.RULES`.
    """

    activations: str = SYMMETRIC

    def of(self, modules: Container[str]) -> "Inputs":
        """Return the preparation for some matrices only, given the names of their modules."""
        return self

    def fields(self) -> dict[str, object]:
        """Return the members of a ``quantization_config`` that a reader must not ignore."""
        return {} if self.activations == SYMMETRIC else {"activations": self.activations}
