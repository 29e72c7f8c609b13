"""Analysis of an architecture: which tensors of a checkpoint can be packed, and why not others."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig

from tritstream.golden.checkpoints.choice import Architecture
from tritstream.host.model.direct import find_uses
from tritstream.host.model.expert_uses import expert_parameters
from tritstream.host.model.merging import find_merges
from tritstream.host.model.skeleton import (
    TensorNames,
    built,
    make_skeleton,
    quiet,
    read_config,
    unfit,
)

__all__ = ["read_architecture"]

_MERGED = "matrices that the model merges or splits"
_DIRECT = "matrices whose weights the model reads directly"

#: Shapes of tensors by name.
Shapes = Mapping[str, tuple[int, ...]]


def read_architecture(path: Path, config: Mapping, shapes: Shapes) -> Architecture:
    """Build the model on the meta device and find out how it uses each tensor of a checkpoint.

    Parameters
    ----------
    path : Path
        The checkpoint, for error messages.
    config : mapping
        Contents of config.json.
    shapes : mapping
        Shape of each tensor by its name in the checkpoint. A packed matrix has the shape (N, K)
        and the name ``MODULE.weight``.

    Raises :class:`.CheckpointError` if transformers cannot build the model.
    """
    with quiet():
        model = make_skeleton(path, read_config(path, config))
        return _describe(path, model, shapes)


def _describe(path: Path, model: PreTrainedModel, shapes: Shapes) -> Architecture:
    names = TensorNames(model)
    places = {name: names.find(name) for name in shapes}
    unknown = {name for name, (place, _) in places.items() if place not in names}
    missing = _missing(path, model, names, shapes)
    merges = find_merges(model, names, shapes)
    matrices = [name for name, shape in shapes.items()
                if name not in unknown and name.endswith(".weight") and len(shape) == 2]
    layers = {name.removesuffix(".weight"): _layer(model, *places[name]) for name in matrices}
    head = model.get_output_embeddings()
    found = {module: _MERGED if layer is None else unfit(layer, shapes[f"{module}.weight"])
             for module, layer in layers.items()}
    kinds = {place: type(module).__name__ for place, module, _ in expert_parameters(model)}
    uses = find_uses(model)
    found |= {module: _DIRECT for module, layer in layers.items() if layer in uses.direct}
    merges = [merge for merge in merges if uses.experts.get(merge.place) == merge.axes]
    merged = {name: merge.place for merge in merges for name in merge.matrices}
    reasons = {module: reason for module, reason in found.items() if reason}
    how = (f"whose trial run fails ({uses.fault})" if uses.fault else
           "which computes in its own way")
    reasons |= {name.removesuffix(".weight") if len(shapes[name]) == 2 else name:
                f"experts of {kinds[place]}, {how}"
                for name, (place, _) in places.items() if place in kinds and "expert" in place}
    return Architecture(
        type(model).__name__,
        frozenset((layers.keys() - reasons.keys()) | merged.keys()),
        {module: reason for module, reason in reasons.items() if module not in merged},
        frozenset(unknown), missing,
        frozenset(module for module, layer in layers.items() if layer and layer is head),
        {name: axes for merge in merges for name, axes in merge.stacked.items()}, merged)


def _layer(model: PreTrainedModel, name: str, merged: bool) -> nn.Module | None:
    """Return the module of a weight; None if the model merges it with others or splits it."""
    return None if merged else model.get_submodule(name.rpartition(".")[0])


def _missing(
    path: Path, model: PreTrainedModel, names: TensorNames, shapes: Shapes,
) -> tuple[str, ...]:
    """Return the tensors that transformers would not find, by loading tensors without values."""
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    how = LoadStateDictConfig(weight_mapping=names.conversions, device_map={"": "meta"},
                              dtype=torch.float32)
    with built(path):
        found, _ = convert_and_load_state_dict_in_model(model, state, how)
        model.tie_weights(missing_keys=found.missing_keys, recompute_mapping=False)
        model._adjust_missing_and_unexpected_keys(found)
    wrong = {name for name, *_ in found.mismatched_keys}
    return tuple(sorted(found.missing_keys | wrong | found.conversion_errors.keys()))
