"""Text as models are scored on it: chunks of tokens, and what a model makes of each."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tritstream.golden.errors import CheckpointError
from tritstream.host.model.quality import Prediction

__all__ = ["Chunks", "Tokens", "predict", "split", "tokenize"]

#: Fewer scored tokens say nothing: llama.cpp makes no statistics of them either.
_FEWEST = 100


@dataclass(frozen=True)
class Tokens:
    """A text in tokens.

    Members
    -------
    ids : int64 (T,)
        Token ids, after the one that begins a text where the vocabulary has it so.
    ends : int64 (T,)
        Characters of the text up to the end of each token; one that several tokens make up ends
        with the first of them.
    bos : int or None
        The id that begins every chunk, if any.
    """

    ids:  np.ndarray
    ends: np.ndarray
    bos:  int | None

    @property
    def sha256(self) -> str:
        """Digest of the ids."""
        return hashlib.sha256(self.ids.astype("<i8").tobytes()).hexdigest()


@dataclass(frozen=True)
class Chunks:
    """Disjoint chunks of a text, each read from nothing; the second half of each is scored.

    Members
    -------
    ids : int64 (C, n)
        Tokens of each chunk as the model reads them.
    sizes : int64 (C,)
        UTF-8 bytes that the scored tokens of a chunk spell.
    """

    ids:   np.ndarray
    sizes: np.ndarray

    @property
    def context(self) -> int:
        """Tokens n of a chunk."""
        return self.ids.shape[1]

    @property
    def scored(self) -> int:
        """Scored tokens of a chunk."""
        return scored_tokens(self.context)

    def targets(self, chunk: int) -> np.ndarray:
        """The scored tokens of a chunk, which are its last."""
        return self.ids[chunk, -self.scored:]


def scored_tokens(context: int) -> int:
    """How many tokens of a chunk are scored: those after the one in the middle."""
    return context - 1 - context // 2


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """Tokens of a whole text; raises :class:`CheckpointError` for a tokenizer without offsets."""
    if not tokenizer.is_fast:
        raise CheckpointError(f"{tokenizer.name_or_path}: its tokenizer cannot tell which text a "
                              "token stands for; add its tokenizer.json")
    begin = tokenizer("").input_ids[:1]
    bos = begin[0] if begin and begin[0] == tokenizer.bos_token_id else None
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = np.array([end for _, end in found.offset_mapping], np.int64)
    ids = np.array(found.input_ids, np.int64)
    if bos is None:
        return Tokens(ids, ends, bos)
    return Tokens(np.insert(ids, 0, bos), np.insert(ends, 0, 0), bos)


def split(tokens: Tokens, text: str, context: int, limit: int) -> Chunks:
    """Cut tokens into chunks.

    Parameters
    ----------
    tokens : Tokens
        Of ``text``.
    context : int
        Tokens of a chunk.
    limit : int
        Scored tokens, at most; 0 for all of the text.

    Raises :class:`ValueError` when there is too little to score.
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
    """What a model expects at each scored place of a chunk; raises :class:`ValueError` for NaN."""
    ids = torch.from_numpy(chunks.ids[chunk:chunk + 1])
    logits = model(ids, use_cache=False, logits_to_keep=chunks.scored + 1).logits
    logits = logits[0, :-1].float().numpy()
    if np.isnan(logits).any():
        raise ValueError(f"{model.name_or_path}: its logits are not numbers in chunk {chunk}")
    return Prediction(logits)
