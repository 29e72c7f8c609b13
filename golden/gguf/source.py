"""A GGUF file as a source of tensors."""

from pathlib import Path

from golden.gguf.model import read_model
from golden.gguf.reader import Gguf
from golden.gguf.tokenizer import tokenizer_files
from golden.gguf.vocabulary import Vocabulary
from golden.job import write_json
from golden.sharding import shards_of
from golden.sources import Source

__all__ = ["GgufSource"]

_GENERATION = "generation_config.json"


class GgufSource(Source):
    """A model of the architecture llama or qwen2 in one GGUF file, read tensor by tensor.

    Quantized tensors are float32, which holds what their blocks stand for exactly; F16, BF16 and
    F32 stay what they are. Rows of queries and keys that llama.cpp has permuted are put back.

    Raises :class:`golden.shards.CheckpointError` for a file that is damaged, or holds what a
    Hugging Face checkpoint has no place for.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        gguf = Gguf(self.path)
        config, self.tensors = read_model(gguf)
        vocabulary = Vocabulary(gguf, config["vocab_size"])
        self._generation = _special_ids(vocabulary)
        self.config = config | self._generation
        self._tokenizer = tokenizer_files(gguf, vocabulary, config["max_position_embeddings"])
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


def _special_ids(vocabulary: Vocabulary) -> dict[str, int | list[int]]:
    """Ids of special tokens as configurations name them."""
    ids = {f"{name}_token_id": vocabulary.special[name] for name in ("bos", "pad")
           if name in vocabulary.special}
    end = vocabulary.end
    return ids | ({"eos_token_id": end if len(end) > 1 else end[0]} if end else {})
