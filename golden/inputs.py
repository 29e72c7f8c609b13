"""What a model does with the input vectors of its matrices before they are multiplied."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from tritstream.golden.activation import SYMMETRIC
from tritstream.golden.rotation import Rotation

__all__ = ["ACTIVATIONS", "ROTATION", "TRANSFORM", "Inputs"]

#: Members of a ``quantization_config``, and the transform of its rotation.
ACTIVATIONS, ROTATION = "activations", "rotation"
TRANSFORM = "walsh-hadamard"


@dataclass(frozen=True)
class Inputs:
    """Preparation of the input vectors of a model's matrices.

    Members
    -------
    activations : str
        Rule by which they become int8, one of :data:`.RULES`.
    rotation : Rotation or None
        Rotation of the inputs of some matrices, before that.
    """

    activations: str = SYMMETRIC
    rotation:    Rotation | None = None

    def of(self, modules: Collection[str]) -> "Inputs":
        """Return the preparation for some matrices only, given the names of their modules."""
        return replace(self, rotation=self.rotation.of(modules)) if self.rotation else self

    def fields(self) -> dict[str, object]:
        """Return the members of a ``quantization_config`` that a reader must not ignore."""
        found: dict[str, object] = {}
        if self.activations != SYMMETRIC:
            found[ACTIVATIONS] = self.activations
        if self.rotation:
            found[ROTATION] = _record(self.rotation)
        return found


def _record(rotation: Rotation) -> dict[str, object]:
    signs = {str(columns): np.packbits(values < 0, bitorder="little").tobytes().hex()
             for columns, values in sorted(rotation.signs.items())}
    return {"transform": TRANSFORM, "block": rotation.block, "signs": signs,
            "modules": sorted(rotation.modules)}
