"""Models of transformers without weights: which class, and where tensors of a checkpoint go."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

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
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.utils import logging

from tritstream.golden.errors import CheckpointError

__all__ = ["TensorNames", "built", "make_skeleton", "model_class", "module_places",
           "no_bars", "quiet", "read_by_others", "read_config", "unfit"]

#: Classes that compute what a linear layer does, though by themselves.
_PLAIN = ("FalconLinear",)


def read_config(path: Path, fields: Mapping) -> PreTrainedConfig:
    """Configuration of transformers, of a directory or of what its config.json will hold.

    Raises :class:`CheckpointError` for a kind of model that transformers does not know, or fields
    that it refuses.
    """
    kind = fields.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise CheckpointError(f"{path}: transformers cannot build the model (model_type {kind!r} "
                              "is not known); check its config.json")
    with built(path):
        if not path.is_dir():
            return CONFIG_MAPPING[kind].from_dict(dict(fields))
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        return config


def model_class(path: Path, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Class of a model that generates text: what ``architectures`` names, or the causal one.

    Raises :class:`CheckpointError` when there is none.
    """
    if config.is_encoder_decoder:
        raise CheckpointError(f"{path}: {config.model_type} has an encoder, which is not "
                              "supported; use a model that only decodes")
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if (isinstance(found, type) and issubclass(found, PreTrainedModel)
                and found.config_class is type(config) and found.can_generate()):
            return found
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise CheckpointError(f"{path}: {config.model_type} has no model that generates text; use "
                              "another model")
    found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple) else found


def make_skeleton(path: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """The model of a configuration on the meta device; raises :class:`CheckpointError`."""
    found = model_class(path, config)
    with built(path), torch.device("meta"):
        return found(config).eval()


class TensorNames:
    """Where transformers puts the tensors of a checkpoint: names differ between its versions.

    Parameters
    ----------
    model : PreTrainedModel
    """

    def __init__(self, model: PreTrainedModel):
        self.conversions = get_model_conversion_mapping(model)
        self._renamings = [one for one in self.conversions if isinstance(one, WeightRenaming)]
        self._converters = [one for one in self.conversions if isinstance(one, WeightConverter)]
        self._prefix, self._state = model.base_model_prefix, model.state_dict()

    def find(self, name: str) -> tuple[str, bool]:
        """Name in the model, and whether its tensor is made of others too, or of a part of one."""
        found, pattern = rename_source_key(
            name, self._renamings, self._converters, self._prefix, self._state)
        if found not in self._state and name in self._state:
            found, pattern = rename_source_key(name, [], [], self._prefix, self._state)
        return found, pattern is not None

    def __contains__(self, name: str) -> bool:
        """Whether the model has a tensor of this name, which :meth:`find` gave."""
        return name in self._state


def module_places(model: PreTrainedModel, tensors: Iterable[str]) -> dict[str, str]:
    """Module in the model of each ``MODULE.weight`` of a checkpoint, by MODULE."""
    names = TensorNames(model)
    return {name.removesuffix(".weight"): names.find(name)[0].removesuffix(".weight")
            for name in tensors if name.endswith(".weight")}


def unfit(layer: nn.Module | None, shape: tuple[int, ...]) -> str | None:
    """Why a layer cannot have a packed matrix of a shape (N, K) in its place; None if it can."""
    kind = type(layer)
    if not isinstance(layer, nn.Linear | nn.Embedding):
        return f"matrices of {kind.__name__}, which is no linear layer"
    if tuple(layer.weight.shape) != shape:
        return f"matrices that are {tuple(layer.weight.shape)} in the model"
    plain = nn.Linear if isinstance(layer, nn.Linear) else nn.Embedding
    if kind.forward is not plain.forward and kind.__name__ not in _PLAIN or issubclass(
            kind, NonDynamicallyQuantizableLinear):
        return f"matrices of {kind.__name__}, which computes in its own way"
    return None


def built(path: str | Path) -> AbstractContextManager[None]:
    """Errors of transformers that builds a model as :class:`CheckpointError`."""
    return read_by_others(f"{path}: transformers cannot build the model", "check its config.json")


@contextmanager
def read_by_others(what: str, advice: str) -> Iterator[None]:
    """Errors of readers that are not ours, which have no common base, as one of ours."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{what} ({reason}); {advice}") from None


@contextmanager
def no_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars: those of a command are its own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from saying anything while nothing but names and shapes is asked."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with no_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
