"""Hooks into transformers that put packed layers into a model before its weights are read."""

from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin, QuantizationMethod

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.reader import (
    QUANT_METHOD,
    SCALES_SUFFIX,
    TRITS_SUFFIX,
    PackedCheckpoint,
)
from tritstream.host.model.linear import TritEmbedding, TritLinear
from tritstream.host.model.skeleton import TensorNames, unfit

__all__ = ["quantization_fields"]


def quantization_fields(checkpoint: PackedCheckpoint) -> dict[str, Any]:
    """Return the ``quantization_config`` with which transformers builds the model."""
    shapes = {name: list(info.shape) for name, info in checkpoint.matrices.items()}
    return {"quant_method": QUANT_METHOD, "shapes": shapes, "kept": list(checkpoint.kept)}


@register_quantization_config(QUANT_METHOD)
class _Shapes(QuantizationConfigMixin):
    """Shapes of packed matrices by module name, and names of unquantized tensors."""

    def __init__(
        self, quant_method: str, shapes: dict[str, list[int]], kept: list[str], **_: object,
    ):
        # transformers annotates its own methods, but accepts the name of any registered method.
        super().__init__(cast(QuantizationMethod, quant_method))
        self.shapes, self.kept = shapes, kept


@register_quantizer(QUANT_METHOD)
class _Quantizer(HfQuantizer):
    """Replaces modules by layers of :mod:`tritstream.host.model.linear` before weights are read."""

    quantization_config: _Shapes

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        names, found = TensorNames(model), self.quantization_config
        places = {name: names.find(f"{name}.weight")[0] for name in found.shapes}
        stored = {names.find(name)[0] for name in found.kept} | {*places.values()}
        for name, shape in found.shapes.items():
            place = places[name].removesuffix(".weight")
            _replace(model, place, name, tuple(shape))
            _untie(model, place, name, stored)
        ends = "|".join(end.replace(".", r"\.") for end in (TRITS_SUFFIX, SCALES_SUFFIX))
        model._keys_to_ignore_on_load_unexpected = {
            *(model._keys_to_ignore_on_load_unexpected or ()), f"({ends})$"}

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


def _replace(model: PreTrainedModel, place: str, name: str, shape: tuple[int, ...]) -> None:
    """Replace the module of a matrix by a layer without weights."""
    try:
        layer = model.get_submodule(place)
    except AttributeError:
        layer = None
    if layer is None or unfit(layer, shape):
        raise CheckpointError(f"packed matrix {name} {shape} is no linear layer of the model "
                              f"({layer}); pack the model again")
    rows, columns = shape
    if isinstance(layer, nn.Embedding):
        model.set_submodule(place, TritEmbedding(rows, columns, name))
    else:
        model.set_submodule(place, TritLinear(columns, rows, layer.bias is not None, name))


def _untie(model: PreTrainedModel, place: str, name: str, stored: set[str]) -> None:
    """Give a module that is tied to a packed module the same matrix, unless its weights are stored.
    """
    tied = model.all_tied_weights_keys
    others = [target if source == f"{place}.weight" else source for target, source in tied.items()
              if f"{place}.weight" in (target, source)]
    model.all_tied_weights_keys = {target: source for target, source in tied.items()
                                   if f"{place}.weight" not in (target, source)}
    for other in others:
        model.config.tie_word_embeddings = False
        if other not in stored:
            shape = tuple(model.get_parameter(other).shape)
            _replace(model, other.removesuffix(".weight"), name, shape)
