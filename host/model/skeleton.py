"""Models of transformers without weights: their class, and the names of their tensors."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    apply_converters,
    apply_renamings,
    rename_source_key,
)
from transformers.utils import logging

from tritstream.golden.errors import CheckpointError

__all__ = ["TensorNames", "built", "linear_layer", "make_skeleton", "model_class",
           "module_places", "no_bars", "quiet", "read_by_others", "read_config", "unfit"]

#: Classes with a method of their own that computes the same as a linear layer.
_PLAIN = ("FalconLinear",)


def read_config(path: Path, fields: Mapping) -> PreTrainedConfig:
    """Return the configuration of a directory, or of ``fields`` if ``path`` is not a directory.

    Raises :class:`.CheckpointError` if transformers does not know the model type, or rejects a
    field.
    """
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise CheckpointError(f"{path}: transformers cannot build the model (model_type {kind!r} "
                              "is not known); check its config.json")
    with built(path):
        if not path.is_dir():
            return CONFIG_MAPPING[kind].from_dict(dict(fields))
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        return config


def model_class(
    path: Path, config: PreTrainedConfig, generates: bool = True,
) -> type[PreTrainedModel]:
    """Return the class of a model: from ``architectures``, else the causal model.

    With ``generates``, only classes that generate text are taken.

    Raises :class:`.CheckpointError` if no such class exists.
    """
    if config.is_encoder_decoder:
        raise CheckpointError(f"{path}: {config.model_type} has an encoder, which is not "
                              "supported; use a model that only decodes")
    named = (getattr(transformers, name, None) for name in config.architectures or ())
    for found in named:
        if (isinstance(found, type) and issubclass(found, PreTrainedModel)
                and found.config_class is type(config)
                and (found.can_generate() or not generates)):
            return found
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise CheckpointError(f"{path}: {config.model_type} has no model that generates text; use "
                              "another model")
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return causal[0] if isinstance(causal, tuple) else causal


def make_skeleton(path: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """Build a model on the meta device; raise :class:`.CheckpointError` if that fails."""
    kind = model_class(path, config, generates=False)
    with built(path), torch.device("meta"):
        return kind(config).eval()


class TensorNames:
    """Names of checkpoint tensors in a model, which depend on the version of transformers.

    Parameters
    ----------
    model : PreTrainedModel

    Members
    -------
    conversions : list
        Renamings and converters that transformers applies to the tensors of a checkpoint.
    """

    def __init__(self, model: PreTrainedModel):
        self.conversions = [one for one in get_model_conversion_mapping(model)
                            if isinstance(one, WeightRenaming | WeightConverter)]
        self._renamings = [one for one in self.conversions if isinstance(one, WeightRenaming)]
        self._converters = [one for one in self.conversions if isinstance(one, WeightConverter)]
        self._prefix, self._state = model.base_model_prefix, model.state_dict()

    def find(self, name: str) -> tuple[str, bool]:
        """Return the name in the model, and whether the tensor is merged with others, or split."""
        found, pattern = self._renamed(name)
        return found, pattern is not None

    def pattern(self, name: str) -> str | None:
        """Return the pattern by which a converter merges or splits a tensor; None without one."""
        return self._renamed(name)[1]

    def converter(self, name: str) -> WeightConverter | None:
        """Return the converter that merges a tensor with others, or splits it; None without one."""
        pattern = self.pattern(name)
        return next((one for one in self._converters if pattern in one.source_patterns), None)

    def unmerged(self, name: str, like: str) -> str:
        """Return the name in the model of a new tensor, which no converter merges.

        The model's prefix is added or left out as it is for the tensor ``like``.
        """
        renamed = apply_renamings(name, self._renamings)
        before, _ = apply_converters(apply_renamings(like, self._renamings), self._converters)
        after, prefix = self.find(like)[0], f"{self._prefix}."
        if after == prefix + before:
            return prefix + renamed
        return renamed.removeprefix(prefix) if before == prefix + after else renamed

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the model."""
        return tuple(self._state[name].shape)

    def _renamed(self, name: str) -> tuple[str, str | None]:
        found, pattern = rename_source_key(
            name, self._renamings, self._converters, self._prefix, self._state)
        if found not in self._state and name in self._state:
            found, pattern = rename_source_key(name, [], [], self._prefix, self._state)
        return found, pattern

    def __contains__(self, name: str) -> bool:
        """Return whether the model has a tensor with this name, as returned by :meth:`find`."""
        return name in self._state


def module_places(model: PreTrainedModel, tensors: Iterable[str]) -> dict[str, str]:
    """Return the module in the model of each ``MODULE.weight`` of a checkpoint, by MODULE."""
    names = TensorNames(model)
    return {name.removesuffix(".weight"): names.find(name)[0].removesuffix(".weight")
            for name in tensors if name.endswith(".weight")}


def linear_layer(model: PreTrainedModel, module: str) -> nn.Linear:
    """Return the linear layer with this module name; raise :class:`TypeError` for another layer."""
    layer = model.get_submodule(module)
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"{module} must be a linear layer, not {type(layer).__name__}")
    return layer


def unfit(layer: nn.Module, shape: tuple[int, ...]) -> str | None:
    """Return why a packed matrix (N, K) cannot replace the weights of a layer; None if it can."""
    kind = type(layer)
    if not isinstance(layer, nn.Linear | nn.Embedding):
        return f"matrices of {kind.__name__}, which is no linear layer"
    if tuple(layer.weight.shape) != shape:
        return f"matrices that are {tuple(layer.weight.shape)} in the model"
    plain = nn.Linear if isinstance(layer, nn.Linear) else nn.Embedding
    if (kind.forward is not plain.forward and kind.__name__ not in _PLAIN) or issubclass(
            kind, NonDynamicallyQuantizableLinear):
        return f"matrices of {kind.__name__}, which computes in its own way"
    return None


def built(path: str | Path) -> AbstractContextManager[None]:
    """Turn errors of transformers while it builds a model into :class:`.CheckpointError`."""
    return read_by_others(f"{path}: transformers cannot build the model", "check its config.json")


@contextmanager
def read_by_others(what: str, advice: str) -> Iterator[None]:
    """Turn errors of a foreign reader, whose types vary, into :class:`.CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{what} ({reason}); {advice}") from None


@contextmanager
def no_bars() -> Iterator[None]:
    """Turn off the progress bars of transformers, because commands show their own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off messages of transformers, for models of which only names and shapes are used."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with no_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
