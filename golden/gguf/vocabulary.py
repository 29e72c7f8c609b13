"""Vocabularies of GGUF files: tokens, their types and scores, and special tokens."""

import math
from typing import Any

from gguf.constants import TokenType

from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.reader import Gguf

__all__ = ["Vocabulary"]

_START = "tokenizer.ggml."
#: Names of special tokens in GGUF, by Hugging Face's names.
_SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
#: Values of ``tokenizer.ggml.model`` for a file without a tokenizer.
_NONE = ("none", "no_vocab")


class Vocabulary:
    """Vocabulary of the tokenizer in a GGUF file.

    Raises :class:`CheckpointError` if the vocabulary is inconsistent, or has more than ``size``
    tokens, the number of rows of the embedding.

    Members
    -------
    kind : str
        ``gpt2``, ``llama`` or an unsupported kind; empty if there is no tokenizer.
    tokens : dict
        Token ids by text, without the unused tokens at the end, which only pad the embedding.
    special : dict
        Ids of bos, eos, unk and pad, as far as the file states them.
    end : list
        Ids that end a generated text.
    """

    def __init__(self, gguf: Gguf, size: int):
        self._gguf = gguf
        kind = self.get("model", str, "none")
        self.kind = "" if kind in _NONE else kind
        texts = self.texts("tokens") if self.kind else []
        self._types = self.get("token_type", list, [TokenType.NORMAL] * len(texts))
        if len(self._types) != len(texts) or len(texts) > size:
            raise self.wrong(f"{len(texts)} tokens, {len(self._types)} types, {size} rows of the "
                             "embedding do not go together")
        while texts and self._types[len(texts) - 1] == TokenType.UNUSED:
            texts.pop()
        self.tokens = {text: number for number, text in enumerate(texts)}
        if len(self.tokens) != len(texts):
            raise self.wrong("two tokens are the same")
        self._texts = texts
        self.special = {name: number for name, theirs in _SPECIAL.items()
                        if (number := self._id(theirs)) is not None}
        ends = (self.special.get("eos"), self._id("eot"), self._id("eom"))
        self.end = list(dict.fromkeys(number for number in ends if number is not None))

    def get(self, key: str, kind: type, default: Any) -> Any:
        """Return a field or its default; raise if the value has another type."""
        value = self._gguf.metadata.get(_START + key, default)
        if type(value) is not kind:
            raise self.wrong(f"{_START}{key} is no {kind.__name__}")
        return value

    def texts(self, key: str) -> list[str]:
        """Return a field that is a list of strings."""
        values = self.get(key, list, None)
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(f"{_START}{key} is no list of text")
        return values

    def scores(self) -> list[float]:
        """Return the score of each token."""
        values = self.get("scores", list, None)
        if len(values) < len(self.tokens):
            raise self.wrong(f"{len(values)} scores of {len(self.tokens)} tokens")
        if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
            raise self.wrong(f"{_START}scores is no list of numbers")
        return values

    def text(self, number: int) -> str:
        """Return the text of a token, given its id."""
        return self._texts[number]

    def of_type(self, *types: TokenType) -> list[str]:
        """Return the texts of tokens of these types, in the order of their ids."""
        return [text for text, kind in zip(self._texts, self._types, strict=False)
                if kind in types]

    def wrong(self, fault: str) -> CheckpointError:
        """Return the error for a tokenizer that cannot be converted."""
        return CheckpointError(f"{self._gguf.path}: its tokenizer cannot be converted: {fault}; "
                               "leave it out with --no-tokenizer, and copy tokenizer.json of the "
                               "original model")

    def _id(self, name: str) -> int | None:
        number = self._gguf.metadata.get(f"{_START}{name}_token_id")
        if number is None or not self.kind:
            return None
        if type(number) is not int or not 0 <= number < len(self._texts):
            raise self.wrong(f"{_START}{name}_token_id is {number!r:.40}, which is no token")
        return number
