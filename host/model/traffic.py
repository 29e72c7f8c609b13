"""Bytes of weights behind one token: those that are packed, and those the host keeps."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from golden.checkpoint import PackedCheckpoint

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
    names = {module: name for name, module in model.named_modules()}
    layer = model.get_input_embeddings()
    embedding, head = names[layer], names[model.get_output_embeddings()]
    kept = {name: tensor.size for name, tensor in checkpoint.kept.items()}
    packed = {name: sum(tensor.size for tensor in checkpoint.tensors_of(name))
              for name in checkpoint.matrices}
    # A packed embedding is multiplied whole only where the head shares it.
    shared = embedding in packed and head not in packed and f"{head}.weight" not in kept
    rows = packed[embedding] if embedding in packed else kept.pop(f"{embedding}.weight")
    if embedding in packed and not shared:
        del packed[embedding]
    heads = rows if model.config.tie_word_embeddings else kept.pop(f"{head}.weight", 0)
    return Traffic(sum(packed.values()), heads, rows // layer.num_embeddings, sum(kept.values()))
