"""Linear layers of a model of transformers for the matrices of its checkpoint."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tritstream.golden.checkpoints.choice import Selection
from tritstream.golden.checkpoints.source import Source
from tritstream.scripts.weights.architecture import architecture_of

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from transformers import PreTrainedModel

__all__ = ["linear_layers"]


def linear_layers(source: Source, model: "PreTrainedModel") -> Mapping[str, str]:
    """Return the module of each matrix that may be packed, including a head tied to the embedding.

    Parameters of experts are replaced by linear layers: :func:`.split_experts`.
    """
    from tritstream.host.model.experts import split_experts
    from tritstream.host.model.skeleton import module_places

    choice = source.choose(Selection(architecture=architecture_of(source).architecture))
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    places = module_places(model, shapes)
    stacked = {name: stack.axes for name, stack in choice.stacks.items()}
    own = split_experts(model, shapes, stacked, choice.matrices)
    layers = {name: own.get(name) or places[name] for name in choice.matrices}
    names = {module: name for name, module in model.named_modules()}
    stored = {place: name for name, place in places.items()}
    head, embedding = (names[layer] for layer in (model.get_output_embeddings(),
                                                  model.get_input_embeddings()))
    return layers | {stored.get(head) or stored[embedding]: head}
