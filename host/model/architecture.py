"""What packing has to know of the model that a config.json describes."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig

from tritstream.golden.checkpoints.choice import Architecture
from tritstream.host.model.direct import directly_used
from tritstream.host.model.skeleton import (
    TensorNames,
    built,
    make_skeleton,
    quiet,
    read_config,
    unfit,
)

__all__ = ["read_architecture"]

_MERGED = "experts and other matrices that the model merges"
_DIRECT = "matrices that the model uses otherwise than by a product"


def read_architecture(
    path: Path, config: Mapping, shapes: Mapping[str, tuple[int, ...]],
) -> Architecture:
    """Build the model on the meta device and see what it does with each tensor of a checkpoint.

    Parameters
    ----------
    path : Path
        The checkpoint, for messages.
    config : mapping
        What config.json holds.
    shapes : mapping
        Shape of each tensor by its name in the checkpoint; of a packed matrix, (N, K) and
        ``MODULE.weight``.

    Raises :class:`CheckpointError` when transformers cannot build the model.
    """
    with quiet():
        return _read(path, config, shapes)


def _read(path: Path, config: Mapping, shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    model = make_skeleton(path, read_config(path, config))
    names = TensorNames(model)
    places = {name: names.find(name) for name in shapes}
    unknown = {name for name, (place, _) in places.items() if place not in names}
    missing = _missing(path, model, names, shapes)
    layers = {name.removesuffix(".weight"): None if merged else _layer(model, place)
              for name, (place, merged) in places.items()
              if name not in unknown and name.endswith(".weight") and len(shapes[name]) == 2}
    reasons = {module: _MERGED if layer is None else unfit(layer, shapes[f"{module}.weight"])
               for module, layer in layers.items()}
    head, used = model.get_output_embeddings(), directly_used(model)
    reasons |= {module: _DIRECT for module, layer in layers.items() if layer in used}
    runnable = frozenset(module for module, reason in reasons.items() if reason is None)
    heads = frozenset(module for module, layer in layers.items() if layer and layer is head)
    return Architecture(
        type(model).__name__, runnable, {m: why for m, why in reasons.items() if why},
        frozenset(unknown), missing, heads)


def _layer(model: PreTrainedModel, place: str) -> nn.Module:
    return model.get_submodule(place.rpartition(".")[0])


def _missing(
    path: Path, model: PreTrainedModel, names: TensorNames, shapes: Mapping[str, tuple[int, ...]],
) -> tuple[str, ...]:
    """What transformers would not find in the checkpoint, by loading tensors without values."""
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    how = LoadStateDictConfig(weight_mapping=names.conversions, device_map={"": "meta"},
                              dtype=torch.float32)
    with built(path):
        found, _ = convert_and_load_state_dict_in_model(model, state, how)
        model.tie_weights(missing_keys=found.missing_keys, recompute_mapping=False)
        model._adjust_missing_and_unexpected_keys(found)
    wrong = {name for name, *_ in found.mismatched_keys}
    return tuple(sorted(found.missing_keys | wrong | found.conversion_errors.keys()))
