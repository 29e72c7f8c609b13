"""Causal models of which one decoder layer at a time is in memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tritstream.golden.checkpoints.source import Source
from tritstream.golden.errors import CheckpointError
from tritstream.host.model.expert_uses import expert_parameters
from tritstream.host.model.finite import stop_at_non_finite
from tritstream.host.model.parts import ModelParts
from tritstream.host.model.skeleton import linear_layer

__all__ = ["LayeredModel"]

#: Arguments of decoder layers, besides the inputs, that depend on nothing but the number of tokens.
_ARGUMENTS = frozenset((
    "attention_mask", "cache", "cache_position", "output_attentions", "past_key_values",
    "position_embeddings", "position_ids", "use_cache"))


class LayeredModel:
    """Unquantized causal model in float32: an embedding, a chain of decoder layers, and a head.

    Each decoder layer gets the results of the previous one, float32 (1, T, H). Its other arguments
    depend on the number T of tokens only. Of embedding, layers and head, at most one is in memory.

    Parameters
    ----------
    source : Source
        The checkpoint.
    device : torch.device
        Device that computes.

    Raises :class:`.CheckpointError` if the checkpoint is unusable, or for a model of another kind.

    Members
    -------
    model : PreTrainedModel
        The model, on the meta device but for the part that is in use, and small tensors.
    device : torch.device
        Device that computes.
    width : int
        Values H per token between layers.
    """

    def __init__(self, source: Source, device: torch.device):
        self._path, self.device = source.path, device
        self._parts = ModelParts(source, device)
        self.model = self._parts.model
        if next(iter(expert_parameters(self.model)), None) is not None:
            raise self._another_kind("has experts")
        self._embedding, self._head = self._ends()
        self._prefix, self._layers = self._find_layers()
        names = {module: name for name, module in self.model.named_modules()}
        self._head_name = names[self._head]
        self._vocabulary = {names[self._embedding], self._head_name}
        self._parts.load(lambda place: not place.startswith(f"{self._prefix}.")
                         and place.rpartition(".")[0] not in self._vocabulary)
        self._parts.compute_buffers()
        stop_at_non_finite(self.model)
        self._arguments: dict[int, list[dict[str, Any]]] = {}
        self.width = self._record(1).inputs.shape[-1]

    def __len__(self) -> int:
        """Return the number of decoder layers."""
        return len(self._layers)

    @contextmanager
    def embedding(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Load the embedding; yield a function from token ids (T,) to inputs of the first layer."""
        with self._vocabulary_of(self._embedding):
            yield lambda ids: self._record(len(ids), ids).inputs

    @contextmanager
    def layer(self, index: int) -> Iterator[Callable[[Tensor], Tensor]]:
        """Load a decoder layer; yield a function from its inputs to its results, (1, T, H)."""
        place, layer = f"{self._prefix}.{index}.", self._layers[index]
        with self._parts.loaded(lambda name: name.startswith(place), [layer]):
            yield lambda inputs: layer(inputs, **self._arguments_for(inputs.shape[1])[index])

    @contextmanager
    def logits(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Load the head; yield a function from results of the last layer to logits (1, T, V)."""
        def run(results: Tensor) -> Tensor:
            recorder = _Recorder(self._another_kind, results)
            with self._in_place_of_layers(recorder.stand_in):
                return self.model(inputs_embeds=self._zeros(results.shape[1]),
                                  use_cache=False).logits
        with self._vocabulary_of(self._head):
            yield run

    def by_layer(self, matrices: Mapping[str, str]) -> list[dict[str, str]]:
        """Return modules by name, as given, for each decoder layer, and for the head at the end.

        Raises :class:`.CheckpointError` for a module that is in no layer and is not the head.
        """
        found: list[dict[str, str]] = [{} for _ in range(len(self) + 1)]
        for name, module in matrices.items():
            rest = module.removeprefix(f"{self._prefix}.")
            if module != self._head_name and rest == module:
                raise self._another_kind(f"has {module}, which is in no decoder layer")
            index = len(self) if module == self._head_name else int(rest.partition(".")[0])
            found[index][name] = module
        return found

    def shapes(self, matrices: Mapping[str, str]) -> dict[str, tuple[int, int]]:
        """Return the shape (N, K) of the weights of linear layers, given as modules by name."""
        layers = {name: linear_layer(self.model, module) for name, module in matrices.items()}
        return {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}

    @contextmanager
    def _vocabulary_of(self, end: nn.Module) -> Iterator[None]:
        """Load the weights of the embedding or of the head, which may be the same."""
        tied = bool(self.model.all_tied_weights_keys)
        ends = [self._embedding, self._head] if tied else [end]
        names = {name for name in self._vocabulary if self.model.get_submodule(name) in ends}
        with self._parts.loaded(lambda place: place.rpartition(".")[0] in names, ends):
            yield

    def _ends(self) -> tuple[nn.Embedding, nn.Linear]:
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        if not isinstance(embedding, nn.Embedding) or not isinstance(head, nn.Linear):
            raise self._another_kind("has no embedding or no linear head of its own")
        return embedding, head

    def _find_layers(self) -> tuple[str, nn.ModuleList]:
        count = getattr(self.model.config, "num_hidden_layers", None)
        found = [module for module in self.model.base_model.children()
                 if isinstance(module, nn.ModuleList) and len(module) == count]
        if len(found) != 1:
            raise self._another_kind("has no single list of decoder layers")
        layers, = found
        names = {module: name for name, module in self.model.named_modules()}
        if next(layers.buffers(), None) is not None:
            raise self._another_kind(f"has buffers in {names[layers]}")
        return names[layers], layers

    def _arguments_for(self, tokens: int) -> list[dict[str, Any]]:
        """Return the arguments that each layer gets, besides its inputs, for a number of tokens."""
        if tokens not in self._arguments:
            self._arguments[tokens] = self._record(tokens).arguments
        return self._arguments[tokens]

    def _record(self, tokens: int, ids: Tensor | None = None) -> "_Recorder":
        """Run the base model without its layers, on token ids or else on zeros."""
        recorder = _Recorder(self._another_kind)
        start = ({"inputs_embeds": self._zeros(tokens)} if ids is None else
                 {"input_ids": ids[None].to(self.device)})
        with self._in_place_of_layers(recorder.stand_in), torch.no_grad():
            self.model.base_model(**start, use_cache=False)
        if len(recorder.arguments) != len(self._layers):
            raise self._another_kind("does not run each of its layers once")
        return recorder

    @contextmanager
    def _in_place_of_layers(self, stand_in: Callable[..., Tensor]) -> Iterator[None]:
        """Let the layers of the model call a function with their index and arguments."""
        for index, layer in enumerate(self._layers):
            layer.forward = partial(stand_in, index)
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward

    def _zeros(self, tokens: int) -> Tensor:
        return torch.zeros(1, tokens, self._embedding.embedding_dim, device=self.device)

    def _another_kind(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {type(self.model).__name__} {what}, so that it "
                               "cannot be calibrated layer by layer; calibrate the complete model")


class _Recorder:
    """Function that stands in for the decoder layers of a model, and records what they get.

    Parameters
    ----------
    another_kind : callable
        Makes the error for a model that does not run its layers as a chain.
    results : Tensor, optional
        Results of each layer. If None, each layer returns its inputs.

    Members
    -------
    inputs : Tensor
        Inputs of the first layer.
    arguments : list
        Other arguments of each layer.
    """

    def __init__(self, another_kind: Callable[[str], CheckpointError],
                 results: Tensor | None = None):
        self._another_kind, self._results = another_kind, results
        self._last: Tensor | None = None
        self.arguments: list[dict[str, Any]] = []

    def stand_in(self, index: int, inputs: Tensor, *others: Any, **arguments: Any) -> Tensor:
        """Record a call of the layer with this index, and return its results."""
        if index != len(self.arguments) or (index and inputs is not self._last):
            raise self._another_kind("does not pass the results of each layer to the next one")
        unknown = [*(type(other).__name__ for other in others),
                   *sorted(arguments.keys() - _ARGUMENTS)]
        if unknown:
            raise self._another_kind(f"gives layer {index} the argument {unknown[0]}")
        if not index:
            self.inputs = inputs
        self.arguments.append(arguments)
        # A copy, so that it can be told from the inputs.
        self._last = inputs.clone() if self._results is None else self._results
        return self._last
