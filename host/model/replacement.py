"""Replacement of a model's modules by packed layers."""

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedModel

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.layout import TRITS_SUFFIX
from tritstream.golden.packed.reader import MatrixInfo, PackedCheckpoint
from tritstream.host.model.experts import set_eager, stack_experts
from tritstream.host.model.linear import PackedLayer, TritEmbedding, TritLinear
from tritstream.host.model.merging import Merge, find_merges
from tritstream.host.model.skeleton import TensorNames, unfit

__all__ = ["packed_layers", "packed_merges", "replace_layers"]


def replace_layers(
    model: PreTrainedModel, checkpoint: PackedCheckpoint, keep: bool = False,
) -> dict[str, str]:
    """Replace the modules of packed matrices by packed layers, on the meta device.

    A matrix that the model does not have is left out, as the output head is in a base model.

    Parameters
    ----------
    model : PreTrainedModel
        Model on the meta device.
    checkpoint : PackedCheckpoint
    keep : bool
        Whether to check the modules only, because plain weights will be loaded into them.

    Returns the matrix by module of the model. Raises :class:`.CheckpointError` if a module cannot
    be replaced, or if the model has no packed matrix.
    """
    names = TensorNames(model)
    found = _replace_experts(model, names, checkpoint, keep)
    others = checkpoint.matrices.keys() - found.values()
    places = {name: names.find(f"{name}.weight")[0] for name in checkpoint.matrices
              if name in others}
    stored = {names.find(name)[0] for name in checkpoint.kept} | {*places.values()}
    for name in places:
        if places[name] not in names:
            continue
        info = checkpoint.matrices[name]
        place = places[name].removesuffix(".weight")
        found[place] = name
        if not keep:
            _replace(model, place, info)
            _untie(model, place, info, stored)
    if not found:
        raise CheckpointError(f"{checkpoint.path}: {type(model).__name__} has none of its packed "
                              f"matrices, such as {next(iter(places))}; load the model by the "
                              "class that its config.json names")
    return found


def packed_layers(model: nn.Module) -> Iterator[PackedLayer]:
    """Yield the packed layers of a model."""
    return (module for module in model.modules() if isinstance(module, PackedLayer))


def _replace_experts(
    model: PreTrainedModel, names: TensorNames, checkpoint: PackedCheckpoint, keep: bool,
) -> dict[str, str]:
    """Replace parameters that merge packed matrices, and return the matrix by module."""
    found: dict[str, str] = {}
    for merge in packed_merges(model, names, checkpoint):
        if keep:
            raise CheckpointError(f"{checkpoint.path}: the experts in {merge.place} cannot be "
                                  "loaded with dequantize=True; export the checkpoint")
        like = [checkpoint.matrices[name].origin for name in merge.matrices]
        places = {name: names.unmerged(f"{name}{TRITS_SUFFIX}", one).removesuffix(TRITS_SUFFIX)
                  for name, one in zip(merge.matrices, like, strict=True)}
        dtype = model.get_parameter(merge.place).dtype
        stack_experts(model, merge, places, partial(_linear, checkpoint, dtype))
        found |= {place: name for name, place in places.items()}
    if found:
        set_eager(model)
    return found


def packed_merges(
    model: PreTrainedModel, names: TensorNames, checkpoint: PackedCheckpoint,
) -> list[Merge]:
    """Return the parameters of a model that are made of packed matrices.

    Raises :class:`.CheckpointError` if only some of the matrices of a parameter are packed.
    """
    origins, kept = checkpoint.origins, checkpoint.kept
    shapes = {name: checkpoint.source_shape(name) for name in origins}
    shapes |= {name: tensor.shape for name, tensor in kept.items()}
    stacked = {name: infos[0].axes for name, infos in origins.items() if infos[0].axes}
    merges = []
    for merge in find_merges(model, names, shapes, stacked):
        missing = [name for name in merge.matrices if name not in checkpoint.matrices]
        if not missing:
            merges.append(merge)
        elif len(missing) < len(merge.matrices):
            raise CheckpointError(f"{checkpoint.path}: {missing[0]} is not packed, but other "
                                  f"matrices of {merge.place} are; pack the model again")
    return merges


def _replace(model: PreTrainedModel, place: str, info: MatrixInfo, stored: bool = True) -> None:
    """Replace the module of a matrix by a layer without weights."""
    try:
        layer = model.get_submodule(place)
    except AttributeError:
        layer = None
    if layer is None or unfit(layer, info.shape):
        raise CheckpointError(f"packed matrix {info.name} {info.shape} is no linear layer of the "
                              f"model ({layer}); pack the model again")
    rows, columns = info.shape
    made: PackedLayer
    if isinstance(layer, nn.Embedding):
        made = TritEmbedding(rows, columns, info.name, info.depth, stored, info.layout)
    else:
        made = TritLinear(columns, rows, layer.bias is not None, info.name, info.depth, stored,
                          info.layout)
    made.dtype = model.get_parameter(f"{place}.weight").dtype
    model.set_submodule(place, made)


def _linear(checkpoint: PackedCheckpoint, dtype: torch.dtype, name: str) -> TritLinear:
    """Return the layer of an expert's matrix."""
    info = checkpoint.matrices[name]
    rows, columns = info.shape
    layer = TritLinear(columns, rows, bias=False, matrix=info.name, depth=info.depth,
                       layout=info.layout)
    layer.dtype = dtype
    return layer


def _untie(
    model: PreTrainedModel, place: str, info: MatrixInfo, stored: Iterable[str],
) -> None:
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
            _replace(model, other.removesuffix(".weight"), info, stored=False)
