"""Training of a ternary model by the recipe of BitNet b1.58, from a trained model.

The forward pass rounds weights to -1, 0 and 1 times the mean magnitude of their matrix, and the
inputs of linear layers to 8 bits per vector. Gradients pass the rounding unchanged
(straight-through estimator). The layers are those of transformers (``AutoBitLinear``, mode
``online``). The architecture stays that of the model: there are no norms within the blocks.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.quantization_config import BitNetQuantConfig

__all__ = ["STORED", "make_ternary", "stored_tensors"]

_HEAD = "lm_head"
_CODES = 4

#: What config.json says about the stored tensors.
STORED = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
          "modules_to_not_convert": [_HEAD]}


def make_ternary(model: PreTrainedModel) -> None:
    """Replace the linear layers of a model by layers that round their weights and inputs."""
    # The rounding is compiled otherwise, which takes longer than it saves.
    torch.compiler.set_stance("force_eager")
    from transformers.integrations.bitnet import replace_with_bitnet_linear

    before = {name: layer.state_dict() for name, layer in _layers(model, nn.Linear)}
    replace_with_bitnet_linear(model, [_HEAD], BitNetQuantConfig(
        linear_class="autobitlinear", quantization_mode="online"))
    for name, state in before.items():
        model.get_submodule(name).load_state_dict(state, assign=True)


def stored_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the tensors of a model in the form in which BitNet models are published.

    Weights become two bits, four blocks of rows in a byte, and a scale in bfloat16. All other
    tensors become bfloat16. Biases are divided by the scale, by which transformers multiplies the
    sum of products and bias. The head, which is the embedding, is left out.
    """
    tensors = {name: value.detach().bfloat16() for name, value in model.named_parameters()}
    for name, layer in _layers(model, nn.Linear):
        scale = layer.weight.detach().float().abs().mean().clamp(min=1e-5)
        levels = (layer.weight.detach() * (1 / scale)).round().clamp(-1, 1)
        tensors[f"{name}.weight"] = _packed(levels)
        tensors[f"{name}.weight_scale"] = scale.bfloat16().reshape(1)
        if layer.bias is not None:
            bias = tensors[f"{name}.bias"].float() / scale.bfloat16().float()
            tensors[f"{name}.bias"] = bias.bfloat16()
    return tensors


def _layers(model: nn.Module, kind: type[nn.Linear]) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, layer) for name, layer in model.named_modules()
            if isinstance(layer, kind) and name != _HEAD)


def _packed(levels: Tensor) -> Tensor:
    codes = (levels + 1).to(torch.uint8).reshape(_CODES, -1, levels.shape[-1])
    return sum(block << 2 * place for place, block in enumerate(codes))
