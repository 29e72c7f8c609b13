"""Parts of a model, whose weights are read from the checkpoint only while the part is used."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig

from tritstream.golden.checkpoints.source import Source
from tritstream.golden.errors import CheckpointError
from tritstream.host.model.skeleton import (
    TensorNames,
    built,
    make_skeleton,
    no_bars,
    quiet,
    read_config,
)
from tritstream.host.torch_values import to_torch

__all__ = ["ModelParts"]


class ModelParts:
    """Unquantized model on the meta device, whose tensors are loaded in float32 part by part.

    Parameters
    ----------
    source : Source
        The checkpoint.
    device : torch.device
        Device of the loaded tensors.

    Raises :class:`.CheckpointError` if transformers cannot build the model.

    Members
    -------
    model : PreTrainedModel
        The model. Its parameters are frozen.
    """

    def __init__(self, source: Source, device: torch.device):
        self._source, self._device = source, device
        with quiet():
            self.model: PreTrainedModel = make_skeleton(
                source.path, read_config(source.path, source.config))
            self._names = TensorNames(self.model)
        self.model.requires_grad_(False)
        self._places = {name: self._names.find(name)[0] for name in source.tensors}

    def load(self, chosen: Callable[[str], bool]) -> None:
        """Load the tensors whose names in the model are chosen.

        Raises :class:`.CheckpointError` if the checkpoint lacks one of them.
        """
        state = {name: to_torch(self._source.read(name)) for name, place in self._places.items()
                 if chosen(place)}
        how = LoadStateDictConfig(weight_mapping=self._names.conversions,
                                  device_map={"": self._device}, dtype=torch.float32)
        with no_bars(), built(self._source.path):
            convert_and_load_state_dict_in_model(self.model, state, how)
            self.model.tie_weights(missing_keys=self._absent(), recompute_mapping=False)
        self.model.requires_grad_(False)
        for place, tensor in self.model.state_dict().items():
            if tensor.is_meta and chosen(place):
                raise CheckpointError(f"{self._source.path}: {place} of the model is missing or "
                                      "of another shape; complete the checkpoint, or correct its "
                                      "config.json")

    @contextmanager
    def loaded(self, chosen: Callable[[str], bool], modules: Iterable[nn.Module]) -> Iterator[None]:
        """Load the chosen tensors until the context ends; they are those of ``modules``."""
        self.load(chosen)
        try:
            yield
        finally:
            for module in modules:
                module.to_empty(device="meta")

    def compute_buffers(self) -> None:
        """Compute the buffers that no checkpoint holds, such as the frequencies of positions.

        Raises :class:`.CheckpointError` if the model's own code does not compute one.
        """
        for name, module in self.model.named_modules():
            own = {part: buffer for part, buffer in module.named_buffers(recurse=False)
                   if part in module._non_persistent_buffers_set}
            for part, buffer in own.items():
                module._buffers[part] = torch.full_like(buffer, torch.nan, device=self._device)
            if own:
                self.model._init_weights(module)
            if any(buffer.isnan().any() for _, buffer in module.named_buffers(recurse=False)):
                raise CheckpointError(f"{self._source.path}: the buffers of {name} are not "
                                      "computed; calibrate the complete model")

    def _absent(self) -> set[str]:
        """Return the names in the model of tensors that the checkpoint does not hold."""
        return self.model.state_dict().keys() - set(self._places.values())
