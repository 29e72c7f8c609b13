"""Scoring of models on a text: tokens, chunks of tokens, and predictions per chunk."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tritstream.golden.errors import CheckpointError
from tritstream.host.quality import Prediction

__all__ = ["Chunks", "Tokens", "predict", "split", "tokenize"]

#: Minimum number of scored tokens for statistics, as in llama.cpp.
_FEWEST = 100


@dataclass(frozen=True)
class Tokens:
    """Text as tokens.

    Members
    -------
    ids : int64 (T,)
        Token ids; the first is ``bos`` if the tokenizer starts a text with it.
    ends : int64 (T,)
        Number of characters of the text up to the end of each token. A character that consists of
        several tokens ends with its first token.
    bos : int or None
        Token id at the start of every chunk, if any.
    """

    ids:  np.ndarray
    ends: np.ndarray
    bos:  int | None

    @property
    def sha256(self) -> str:
        """SHA-256 of the ids as little-endian int64."""
        return hashlib.sha256(self.ids.astype("<i8").tobytes()).hexdigest()


@dataclass(frozen=True)
class Chunks:
    """Disjoint chunks of a text. A model reads each without context; its second half is scored.

    Members
    -------
    ids : int64 (C, n)
        Tokens per chunk, as the model reads them.
    sizes : int64 (C,)
        Number of UTF-8 bytes of the scored tokens per chunk.
    """

    ids:   np.ndarray
    sizes: np.ndarray

    @property
    def context(self) -> int:
        """Number of tokens n per chunk."""
        return self.ids.shape[1]

    @property
    def scored(self) -> int:
        """Number of scored tokens per chunk."""
        return scored_tokens(self.context)

    def targets(self, chunk: int) -> np.ndarray:
        """Return the scored tokens of a chunk, which are its last ones."""
        return self.ids[chunk, -self.scored:]


def scored_tokens(context: int) -> int:
    """Return the number of scored tokens per chunk: all tokens after the middle one."""
    return context - 1 - context // 2


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """Tokenize a text; raise :class:`.CheckpointError` if the tokenizer has no offsets."""
    if not tokenizer.is_fast:
        raise CheckpointError(f"{tokenizer.name_or_path}: its tokenizer cannot tell which text a "
                              "token stands for; add its tokenizer.json")
    first = tokenizer("").input_ids[:1]
    bos = first[0] if first and first[0] == tokenizer.bos_token_id else None
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = np.array([end for _, end in found.offset_mapping], np.int64)
    ids = np.array(found.input_ids, np.int64)
    if bos is None:
        return Tokens(ids, ends, bos)
    return Tokens(np.insert(ids, 0, bos), np.insert(ends, 0, 0), bos)


def split(tokens: Tokens, text: str, context: int, limit: int) -> Chunks:
    """Split tokens into chunks.

    Parameters
    ----------
    tokens : Tokens
        Tokens of ``text``.
    text : str
    context : int
        Number of tokens per chunk.
    limit : int
        Maximum number of scored tokens; 0 for the complete text.

    Raises :class:`ValueError` if too few tokens would be scored.
    """
    if context < 4:
        raise ValueError(f"ctx must be at least 4 tokens, not {context}")
    count, scored = len(tokens.ids) // context, scored_tokens(context)
    if count < 2:
        raise ValueError(f"the text has {len(tokens.ids)} tokens, but two chunks of {context} need "
                         f"{2 * context}; give more text or a smaller ctx")
    if limit:
        count = min(count, limit // scored)
    if count * scored < _FEWEST:
        raise ValueError(f"{count} chunks of {context} tokens score {count * scored} tokens, too "
                         f"few for statistics; score at least {_FEWEST}")
    ids = tokens.ids[:count * context].reshape(count, context).copy()
    if tokens.bos is not None:
        ids[:, 0] = tokens.bos
    ends = tokens.ends[:count * context].reshape(count, context)
    sizes = [len(text[first:last].encode()) for first, last in ends[:, [context // 2, -1]]]
    return Chunks(ids, np.array(sizes, np.int64))


@torch.inference_mode()
def predict(model: PreTrainedModel, chunks: Chunks, chunk: int) -> Prediction:
    """Return predictions for the scored tokens of a chunk; raise :class:`ValueError` for NaN."""
    ids = torch.from_numpy(chunks.ids[chunk:chunk + 1])
    logits = model(ids, use_cache=False, logits_to_keep=chunks.scored + 1).logits
    logits = logits[0, :-1].float().numpy()
    if np.isnan(logits).any():
        raise ValueError(f"{model.name_or_path}: its logits are not numbers in chunk {chunk}")
    return Prediction(logits)
