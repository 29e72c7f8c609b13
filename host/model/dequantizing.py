"""Operation of transformers that loads packed matrices as plain weights."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps, _IdentityOp

from tritstream.golden.packed.export import exported_weights

if TYPE_CHECKING:
    from tritstream.host.model.quantizer import TritstreamQuantizer

__all__ = ["Dequantize"]


class _Pair(NamedTuple):
    trits:  Tensor
    scales: Tensor


class Dequantize(ConversionOps):
    """Turns tiles and table of a matrix into the weights that an export of the checkpoint has."""

    def __init__(self, hf_quantizer: "TritstreamQuantizer"):
        # By this name transformers knows that it must not cast the tensors before.
        self.hf_quantizer = hf_quantizer

    def convert(
        self, input_dict: Mapping[str, Sequence[Tensor]], source_patterns: Sequence[str],
        target_patterns: Sequence[str], *, full_layer_name: str, model: PreTrainedModel, **_: Any,
    ) -> dict[str, Tensor]:
        """Return the weights of a matrix by the name of their tensor in the model."""
        checkpoint = self.hf_quantizer.checkpoint
        name = self.hf_quantizer.places[full_layer_name.removesuffix(".weight")]
        trits, scales = (input_dict[pattern][0] for pattern in source_patterns)
        checkpoint.held[name] = _Pair(trits, scales)
        weights = _tensor(exported_weights(checkpoint, name).read())
        del checkpoint.held[name]
        return {full_layer_name: weights.to(trits.device,
                                            model.get_parameter(full_layer_name).dtype)}

    @property
    def reverse_op(self) -> ConversionOps:
        """Operation that saves the weights as they are."""
        return _IdentityOp()


def _tensor(values: np.ndarray) -> Tensor:
    """Return values of any float dtype as a tensor; torch does not know bfloat16 of numpy."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)
