"""Steps of packing: one source tensor is encoded or copied, written, and reported."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tritstream.golden.checkpoints.cast_tensor import rounded_pieces
from tritstream.golden.checkpoints.safetensors_writer import Place, ShardWriter
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.groups import WeightRows
from tritstream.golden.matrix import DirectMatrix, Encoded, whole
from tritstream.golden.packed.apart_packer import ApartPacking
from tritstream.golden.packed.finite import FiniteCheck
from tritstream.golden.packed.layout import Layout
from tritstream.golden.packed.matrix_packer import Packing
from tritstream.golden.packed.plan import Plan
from tritstream.golden.packed.report import kept_report

__all__ = ["TensorEncoder", "TensorStep"]

#: Bytes that copying a tensor holds.
_COPY_MEMORY = 1 << 23


class TensorEncoder(Protocol):
    """Maker of the quantized matrix of a source tensor."""

    def encode(
        self, module: str, tensor: SourceTensor,
    ) -> tuple[Encoded | DirectMatrix, WeightRows | None]:
        """Return the matrix of a module, and the weights to measure its error against.

        The weights are None if the matrix represents the source exactly.
        """

    def memory(self, tensor: SourceTensor) -> int:
        """Return the largest number of bytes held while the tensor is encoded and packed."""


@dataclass(frozen=True)
class TensorStep:
    """Step that writes the packed or unquantized form of a source tensor.

    Calling it returns the record of a :class:`.TensorReport`, with the CRC-32 of each written
    tensor under ``checksums``. The step can be pickled if ``tensor`` and ``encoder`` can, and can
    run on every machine that has their files.

    Members
    -------
    tensor : SourceTensor
        Tensor to read.
    module : str or None
        Module name of the packed matrix, None if the tensor stays unquantized.
    places : mapping
        Where to write, by name of the written tensor.
    encoder : TensorEncoder
        Maker of the matrix.
    engine : str or None
        Engine that packs the tiles.
    layout : Layout
        Group length and kind of scales of the matrix.
    codec : str
        Profile of the matrix, for the advice in warnings.
    """

    tensor:  SourceTensor
    module:  str | None
    places:  Mapping[str, Place]
    encoder: TensorEncoder
    engine:  str | None
    layout:  Layout
    codec:   str

    @classmethod
    def of(cls, plan: Plan, tensor: SourceTensor, writer: ShardWriter, encoder: TensorEncoder,
           engine: str | None) -> "TensorStep":
        """Return the step for a tensor of a plan."""
        places = {entry.name: writer.place(entry.name) for entry in plan.written(tensor).entries}
        module = plan.module_of(tensor)
        layout = plan.layout_of(module or "")
        return cls(tensor, module, places, encoder, engine, layout, plan.codec)

    @property
    def memory(self) -> int:
        """Largest number of bytes that the step holds."""
        return _COPY_MEMORY if self.module is None else self.encoder.memory(self.tensor)

    def __call__(self) -> dict:
        return self._copy() if self.module is None else self._pack(self.module)

    def _copy(self) -> dict:
        name, check = self.tensor.name, FiniteCheck(self.tensor.dtype, self.tensor.shape)
        pieces, rounding = rounded_pieces(self.tensor)
        checksums = {name: self.places[name].write(check.watch(pieces))}
        return {**kept_report(self.tensor, check.fault, rounding).record(), "checksums": checksums}

    def _pack(self, module: str) -> dict:
        matrix, weights = self.encoder.encode(module, self.tensor)
        packing: Packing | ApartPacking
        if isinstance(matrix, DirectMatrix) or self.layout.kind:
            packing = ApartPacking(whole(matrix), self.layout, weights, self.engine)
        else:
            packing = Packing(matrix, weights, self.engine)
        checksums = {name: self.places[name].write(data)
                     for name, data in packing.tensors(module).items()}
        return {**packing.report(module, self.codec).record(), "checksums": checksums}
