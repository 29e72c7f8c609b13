"""A GGUF file as a source of tensors."""

from pathlib import Path

from tritstream.golden.checkpoints.sharding import shards_of
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.gguf.model import read_model
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.gguf.tokenizer import tokenizer_files
from tritstream.golden.gguf.vocabulary import Vocabulary
from tritstream.golden.jobs.directory_job import write_json

__all__ = ["GgufSource"]

_GENERATION = "generation_config.json"


class GgufSource(Source):
    """A model of the architecture llama or qwen2 in one GGUF file, read tensor by tensor.

    Quantized tensors are float32, which holds what their blocks stand for exactly; F16, BF16 and
    F32 stay what they are. Rows of queries and keys that llama.cpp has permuted are put back.

    Raises :class:`.CheckpointError` for a file that is damaged, or holds what a
    Hugging Face checkpoint has no place for.

    Parameters
    ----------
    path : path
        The file.
    tokenizer : bool
        Whether the tokenizer is converted too. Without it, a tokenizer that is not known here does
        no harm.
    """

    def __init__(self, path: str | Path, *, tokenizer: bool = True):
        self.path = Path(path)
        gguf = Gguf(self.path)
        config, self.tensors = read_model(gguf)
        self._tokenizer: dict[str, dict] = {}
        if tokenizer:
            vocabulary = Vocabulary(gguf, config["vocab_size"])
            self._generation = _special_ids(vocabulary)
            self._tokenizer = tokenizer_files(gguf, vocabulary, config["max_position_embeddings"])
        else:
            self._generation = _stated_ids(gguf, config["vocab_size"])
            self.settings = {"tokenizer": False}
        self.config = config | self._generation
        metadata = {key: value for key, value in gguf.metadata.items()
                    if key.startswith("general.") and isinstance(value, str)}
        self.shards = shards_of(self.tensors.values(), {"format": "pt", **metadata})
        self.sharded = len(self.shards) > 1

    def files(self) -> list[Path]:
        """The file."""
        return [self.path]

    def write_companions(self, directory: Path) -> None:
        """Write the tokenizer and the generation settings."""
        for name, value in {**self._tokenizer, _GENERATION: self._generation}.items():
            write_json(directory / name, value)


def _stated_ids(gguf: Gguf, size: int) -> dict[str, int]:
    """The same without the vocabulary: numbers in the metadata that are rows of the embedding."""
    found = {f"{name}_token_id": gguf.metadata.get(f"tokenizer.ggml.{theirs}_token_id")
             for name, theirs in (("bos", "bos"), ("pad", "padding"), ("eos", "eos"))}
    return {name: number for name, number in found.items()
            if type(number) is int and 0 <= number < size}


def _special_ids(vocabulary: Vocabulary) -> dict[str, int | list[int]]:
    """Ids of special tokens as configurations name them."""
    ids = {f"{name}_token_id": vocabulary.special[name] for name in ("bos", "pad")
           if name in vocabulary.special}
    end = vocabulary.end
    return ids | ({"eos_token_id": end if len(end) > 1 else end[0]} if end else {})
