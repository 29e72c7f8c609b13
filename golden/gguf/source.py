"""A GGUF file as a source of tensors."""

from collections.abc import Mapping
from pathlib import Path

from tritstream.golden.activation import BITNET, SYMMETRIC
from tritstream.golden.checkpoints.sharding import shards_of
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.gguf.model import read_model
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.gguf.rotation import read_rotation
from tritstream.golden.gguf.tokenizer import tokenizer_files
from tritstream.golden.gguf.vocabulary import Vocabulary
from tritstream.golden.inputs import Inputs
from tritstream.golden.jobs.directory_job import write_json

__all__ = ["GgufSource"]

_GENERATION = "generation_config.json"


class GgufSource(Source):
    """Model of the architecture llama or qwen2 in one GGUF file, read tensor by tensor.

    Quantized tensors are dequantized to float32, which holds their values exactly. Tensors in F16,
    BF16 and F32 keep their dtype. Query and key rows, which llama.cpp permutes, are restored to
    Hugging Face's order.

    Raises :class:`.CheckpointError` if the file is damaged, or has contents without a counterpart
    in Hugging Face checkpoints.

    Parameters
    ----------
    path : path
        The file.
    tokenizer : bool
        Whether to convert the tokenizer. If False, an unsupported tokenizer is no error.
    """

    _generation: dict[str, int] | dict[str, int | list[int]]

    def __init__(self, path: str | Path, *, tokenizer: bool = True):
        self.path = Path(path)
        gguf = Gguf(self.path)
        config, self.tensors = read_model(gguf)
        self.inputs = Inputs(_activations(config, gguf), read_rotation(gguf, self.tensors))
        self._tokenizer: dict[str, dict] = {}
        if tokenizer:
            vocabulary = Vocabulary(gguf, config["vocab_size"])
            self._generation = _special_ids(vocabulary)
            self._tokenizer = tokenizer_files(gguf, vocabulary, config["max_position_embeddings"])
        else:
            self._generation = _stated_ids(gguf, config["vocab_size"])
            self.settings = {"tokenizer": False}
        self.config = {**config, **self._generation}
        metadata = {key: value for key, value in gguf.metadata.items()
                    if key.startswith("general.") and isinstance(value, str)}
        self.shards = shards_of(self.tensors.values(), {"format": "pt", **metadata})
        self.sharded = len(self.shards) > 1

    def files(self) -> list[Path]:
        """Return the path of the GGUF file."""
        return [self.path]

    def write_companions(self, directory: Path) -> None:
        """Write the tokenizer files and the generation settings."""
        for name, value in {**self._tokenizer, _GENERATION: self._generation}.items():
            write_json(directory / name, value)


def _activations(config: Mapping, gguf: Gguf) -> str:
    """Return the rule for activations: that of BitNet for its models, and for its block type."""
    types = {tensor.kind.name for tensor in gguf.tensors.values()}
    return BITNET if config["model_type"] == "bitnet" or "I2_S" in types else SYMMETRIC


def _stated_ids(gguf: Gguf, size: int) -> dict[str, int]:
    """Return ids of special tokens that are valid rows of the embedding, without a vocabulary."""
    stated = {f"{name}_token_id": gguf.metadata.get(f"tokenizer.ggml.{theirs}_token_id")
             for name, theirs in (("bos", "bos"), ("pad", "padding"), ("eos", "eos"))}
    return {name: number for name, number in stated.items()
            if type(number) is int and 0 <= number < size}


def _special_ids(vocabulary: Vocabulary) -> dict[str, int | list[int]]:
    """Return the ids of special tokens, by the names of Hugging Face's configurations."""
    ids: dict[str, int | list[int]] = {
        f"{name}_token_id": vocabulary.special[name] for name in ("bos", "pad")
        if name in vocabulary.special}
    end = vocabulary.end
    if end:
        ids["eos_token_id"] = end if len(end) > 1 else end[0]
    return ids
