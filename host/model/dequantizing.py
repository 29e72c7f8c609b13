"""Operation of transformers that loads packed matrices as plain weights."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor
from transformers.core_model_loading import ConversionOps, _IdentityOp

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.export import exported_weights
from tritstream.host.model.held import HeldCheckpoint
from tritstream.host.torch_values import to_torch

__all__ = ["Dequantize", "Loading"]


class Loading(Protocol):
    """Members of :class:`.TritstreamQuantizer` that the operation uses."""

    checkpoint: HeldCheckpoint
    places:     dict[str, str]


class _Pair(NamedTuple):
    trits:  Tensor
    scales: Tensor

    def tiles(self) -> Tensor:
        return self.trits


class Dequantize(ConversionOps):
    """Turns tiles and table of a matrix into the weights that an export of the checkpoint has."""

    def __init__(self, hf_quantizer: Loading):
        # By this name transformers knows that it must not cast the tensors before.
        self.hf_quantizer = hf_quantizer
        self._done: set[str] = set()

    def convert(
        self, input_dict: Mapping[str, Any], source_patterns: list[str],
        target_patterns: list[str], **kwargs: Any,
    ) -> dict[str, list[Tensor]]:
        """Return the weights of a matrix by the name of their tensor in the model."""
        place, model = kwargs["full_layer_name"], kwargs["model"]
        checkpoint = self.hf_quantizer.checkpoint
        name = self.hf_quantizer.places[place.removesuffix(".weight")]
        trits, scales = (input_dict[pattern][0] for pattern in source_patterns)
        checkpoint.held[name] = _Pair(trits, scales)
        origin = checkpoint.matrices[name].origin
        weights = to_torch(exported_weights(checkpoint, origin).read())
        del checkpoint.held[name]
        self._done.add(name)
        return {place: [weights.to(trits.device, model.get_parameter(place).dtype)]}

    def __deepcopy__(self, memo: dict) -> "Dequantize":
        """Return the operation itself: transformers copies the converter for each tensor."""
        return self

    def check_complete(self) -> None:
        """Raise :class:`.CheckpointError` if a matrix of the model was not loaded."""
        for name in set(self.hf_quantizer.places.values()) - self._done:
            raise CheckpointError(f"{self.hf_quantizer.checkpoint.path}: {name} was not loaded; "
                                  "export the checkpoint, and load the export")

    @property
    def reverse_op(self) -> ConversionOps:
        """Operation that saves the weights as they are."""
        return _IdentityOp()
