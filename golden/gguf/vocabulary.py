"""Vocabularies of GGUF files: tokens, what they are for, merges, special ones."""

import math
from typing import Any

from gguf.constants import TokenType

from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.reader import Gguf

__all__ = ["Vocabulary"]

_START = "tokenizer.ggml."
#: Special tokens by their names at Hugging Face.
_SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
#: Models of a tokenizer that say that there is none.
_NONE = ("none", "no_vocab")


class Vocabulary:
    """What a GGUF file says of its tokenizer.

    Raises :class:`CheckpointError` for a vocabulary that does not agree with itself, or has more
    than ``size`` tokens, the rows of the embedding.

    Members
    -------
    kind : str
        ``gpt2`` or ``llama``, or one that is not known here; empty when there is no tokenizer.
    tokens : dict
        Ids by text. Unused ones at the end, which only pad the embedding, are not in it.
    special : dict
        Ids of bos, eos, unk and pad, as far as they are named.
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
        """A field that must be of a type when it is there."""
        value = self._gguf.metadata.get(_START + key, default)
        if type(value) is not kind:
            raise self.wrong(f"{_START}{key} is no {kind.__name__}")
        return value

    def texts(self, key: str) -> list[str]:
        """A field that is a list of text."""
        values = self.get(key, list, None)
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(f"{_START}{key} is no list of text")
        return values

    def scores(self) -> list[float]:
        """What each token is worth."""
        values = self.get("scores", list, None)
        if len(values) < len(self.tokens):
            raise self.wrong(f"{len(values)} scores of {len(self.tokens)} tokens")
        if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
            raise self.wrong(f"{_START}scores is no list of numbers")
        return values

    def text(self, number: int) -> str:
        """Text of a token."""
        return self._texts[number]

    def of_type(self, *types: TokenType) -> list[str]:
        """Tokens of these types, by rising ids."""
        return [text for text, kind in zip(self._texts, self._types, strict=False)
                if kind in types]

    def wrong(self, fault: str) -> CheckpointError:
        """The error of a tokenizer that cannot be made."""
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
