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
        The head where it is not packed; a head tied to the embedding is read all the same.
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
    modules = {module: f"{name}.weight" for name, module in model.named_modules()}
    sizes = {name: tensor.size for name, tensor in checkpoint.kept.items()}
    rows = model.get_input_embeddings().num_embeddings
    embedding = sizes.pop(modules[model.get_input_embeddings()])
    head = sizes.pop(modules[model.get_output_embeddings()], 0)
    if model.config.tie_word_embeddings:
        head = embedding
    tensors = [tensor for name in checkpoint.matrices for tensor in checkpoint.tensors_of(name)]
    return Traffic(sum(tensor.size for tensor in tensors), head, embedding // rows,
                   sum(sizes.values()))
