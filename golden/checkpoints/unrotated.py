"""Checkpoints whose weights are rotated, with the weights of the model before the rotation."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from tritstream.golden.checkpoints.cast_tensor import value_chunks
from tritstream.golden.checkpoints.changed_source import ChangedSource
from tritstream.golden.checkpoints.computed_tensor import ChangedTensor, ChunkedTensor
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.rotation import Rotation

__all__ = ["UnrotatedTensor", "unrotated"]


@dataclass(frozen=True)
class UnrotatedTensor(ChangedTensor, ChunkedTensor):
    """Matrix with rows that are rotated back, in float32: a SourceTensor."""

    rotation: Rotation

    dtype = "F32"
    #: As for the blocks of GGUF: the values are no more accurate than 16 bits.
    dequantized = True

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield rows in order, float32 (rows, K)."""
        columns, rest = self.shape[-1], np.empty(0, np.float32)
        for values in value_chunks(self.source):
            values = np.concatenate((rest, values.astype(np.float32)))
            end = len(values) // columns * columns
            yield self.rotation.undo(values[:end].reshape(-1, columns))
            rest = values[end:]


def unrotated(source: Source, kept: Collection[str] = ()) -> Source:
    """Return a checkpoint without rotations, except those of the modules ``kept``.

    These keep their tensors, and the result's ``inputs`` describe their rotation.
    """
    rotation = source.inputs.rotation
    if rotation is None or rotation.modules <= set(kept):
        return source
    return _UnrotatedSource(source, rotation, kept)


class _UnrotatedSource(ChangedSource):
    def __init__(self, source: Source, rotation: Rotation, kept: Collection[str]):
        names = {f"{module}.weight" for module in rotation.modules.difference(kept)}
        super().__init__(source, lambda tensors: {
            name: UnrotatedTensor(tensor, rotation) if name in names else tensor
            for name, tensor in tensors.items()})
        self.inputs = source.inputs.of(kept)
        key = "dtype" if "dtype" in source.config else "torch_dtype"
        self.config = {**source.config, key: "float32"}
