"""Bytes of weights read per token: packed on the device, unquantized on the host."""

from collections import Counter
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.model.experts import routed_shares
from tritstream.host.model.linear import TritEmbedding, TritLinear
from tritstream.host.model.skeleton import TensorNames

__all__ = ["Traffic", "token_traffic"]


@dataclass(frozen=True)
class Traffic:
    """Bytes of weights that decoding one token reads, as stored in the checkpoint.

    Members
    -------
    packed : int
        Tiles and scale tables of packed matrices, without the padding of a device. Of experts, as
        many as a token is routed to.
    head : int
        Output head if it is not packed, even if it is tied to the embedding.
    embedding : int
        One row of the embedding.
    other : int
        All other unquantized tensors, such as norms and biases.
    """

    packed:    int
    head:      int
    embedding: int
    other:     int

    @property
    def packed_share(self) -> float:
        """Share of the packed matrices in all bytes, 0..1."""
        return self.packed / (self.packed + self.head + self.embedding + self.other)


def token_traffic(model: PreTrainedModel, checkpoint: PackedCheckpoint) -> Traffic:
    """Return the bytes of the checkpoint that a loaded model reads per token."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names, modules = TensorNames(model), {module: name for name, module in model.named_modules()}
    kept: Counter[str] = Counter()
    for name, tensor in checkpoint.kept.items():
        kept[names.find(name)[0]] += tensor.size
    packed = {name: sum(tensor.size for tensor in checkpoint.tensors_of(name))
              for name in checkpoint.matrices}
    rows, heads = (packed.get(_matrix(layer)) or kept.pop(f"{modules.get(layer)}.weight", 0)
                   for layer in (embedding, head))
    # A product reads all rows of a packed embedding only if the head shares it.
    if _matrix(embedding) in packed and _matrix(head) != _matrix(embedding):
        del packed[_matrix(embedding)]
    row = (rows or heads) // _row_count(embedding)
    shares = routed_shares(model)
    read = round(sum(size * shares.get(name, 1.0) for name, size in packed.items()))
    # Of two layers that share their weights, one is not stored.
    unpacked = 0 if _matrix(head) in packed else heads or rows
    return Traffic(read, unpacked, row, sum(kept.values()))


def _matrix(layer: nn.Module | None) -> str:
    """Return the name of the packed matrix of a layer; empty if the layer is not packed."""
    return layer.matrix if isinstance(layer, TritLinear | TritEmbedding) else ""


def _row_count(embedding: nn.Module | None) -> int:
    if not isinstance(embedding, nn.Embedding | TritEmbedding):
        raise TypeError(f"the model must have an embedding, not {type(embedding).__name__}")
    return embedding.num_embeddings
