"""Bytes of weights behind one token: those that are packed, and those the host keeps."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.model.skeleton import TensorNames

__all__ = ["Traffic", "token_traffic"]


@dataclass(frozen=True)
class Traffic:
    """Bytes of weights that decoding one token reads, as the checkpoint stores them.

    Members
    -------
    packed : int
        Tiles and scale tables of packed matrices, without what a device pads.
    head : int
        The head where it is not packed; one tied to the embedding is read all the same.
    embedding : int
        One row of the embedding.
    other : int
        Norms, biases and whatever else is kept.
    """

    packed:    int
    head:      int
    embedding: int
    other:     int

    @property
    def packed_share(self) -> float:
        """Share of the packed matrices, 0..1."""
        return self.packed / (self.packed + self.head + self.embedding + self.other)


def token_traffic(model: PreTrainedModel, checkpoint: PackedCheckpoint) -> Traffic:
    """What one token of a loaded model reads of its checkpoint."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names, modules = TensorNames(model), {module: name for name, module in model.named_modules()}
    kept = {names.find(name)[0]: tensor.size for name, tensor in checkpoint.kept.items()}
    packed = {name: sum(tensor.size for tensor in checkpoint.tensors_of(name))
              for name in checkpoint.matrices}
    rows, heads = (packed.get(_matrix(layer)) or kept.pop(f"{modules.get(layer)}.weight", 0)
                   for layer in (embedding, head))
    # A packed embedding is multiplied whole only where the head shares it.
    if _matrix(embedding) in packed and _matrix(head) != _matrix(embedding):
        del packed[_matrix(embedding)]
    size = (rows or heads) // embedding.num_embeddings
    # One of two that share their weights is not stored.
    whole = 0 if _matrix(head) in packed else heads or rows
    return Traffic(sum(packed.values()), whole, size, sum(kept.values()))


def _matrix(layer: nn.Module | None) -> str | None:
    """Name of the packed matrix of a layer."""
    return getattr(layer, "matrix", None)
