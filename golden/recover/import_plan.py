"""Plan of the output of an import, and the encoder of its matrices."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tritstream.golden.checkpoints.source import MODULES_TO_NOT_CONVERT, Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor, Ternary
from tritstream.golden.errors import CheckpointError
from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.golden.packed.card import BaseModel
from tritstream.golden.packed.metadata import RECOVERED, marks_of
from tritstream.golden.packed.plan import Plan
from tritstream.golden.recover import DEPTHS, Recovery, encode
from tritstream.golden.recover.survey import Stated
from tritstream.golden.rounding import FORMS

__all__ = ["RecoveredEncoder", "plan_of"]

#: Bytes per weight held in addition to the weights: integers, codes, and tiles to be written.
_BYTES_PER_WEIGHT = 2


def plan_of(
    source: Source, matrices: Mapping[str, SourceTensor],
    fitting: Mapping[str, Recovery | Stated], slices: Mapping[str, dict[str, str]],
    notes: Mapping[str, object], base: BaseModel | None,
) -> Plan:
    """Return a plan with the depth of most weights as default, and other depths as exceptions.

    Parameters
    ----------
    source : Source
        Source checkpoint with the slices that are packed as its tensors.
    matrices : mapping
        Tensors to pack, by module name.
    fitting : mapping
        What was recovered of each of them.
    slices : mapping
        Metadata fields of slices, by module name.
    notes, base
        As for :class:`.Plan`.
    """
    weights: Counter[int] = Counter()
    for name, recovery in fitting.items():
        weights[recovery.depth] += math.prod(matrices[name].shape)
    return Plan(
        source, matrices, next((depth for depth, _ in weights.most_common(1)), max(DEPTHS)),
        depths={name: recovery.depth for name, recovery in fitting.items()},
        kept=MODULES_TO_NOT_CONVERT, codec=RECOVERED, notes=notes, base=base,
        marks={name: marks_of(FORMS[recovery.form], matrices[name].dtype) | slices.get(name, {})
               for name, recovery in fitting.items()},
        layouts={name: found.layout for name, found in fitting.items()
                 if isinstance(found, Stated)})


@dataclass(frozen=True)
class RecoveredEncoder:
    """A :class:`.TensorEncoder` that encodes by recovered tables; ``fitting`` is by module name."""

    fitting: Mapping[str, Recovery | Stated]

    def encode(
        self, module: str, tensor: SourceTensor,
    ) -> tuple[TritMatrix | DirectMatrix, None]:
        """Return the matrix of a module; there are no weights to measure an error against."""
        recovery = self.fitting[module]
        if isinstance(recovery, Stated):
            stated = tensor.ternary() if isinstance(tensor, Ternary) else None
            if stated is None:
                raise CheckpointError(f"{tensor.path}: {tensor.name} has changed; import it again")
            return stated, None
        table = np.array(recovery.table, np.float32)
        matrix = encode(tensor.read(), table, recovery.depth, FORMS[recovery.form], tensor.name)
        return matrix, None

    def memory(self, tensor: SourceTensor) -> int:
        """Return the largest number of bytes held while a tensor is encoded and packed."""
        return tensor.size + _BYTES_PER_WEIGHT * math.prod(tensor.shape)
