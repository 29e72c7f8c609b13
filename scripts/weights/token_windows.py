"""Windows of tokens of a calibration text."""

from pathlib import Path
from typing import TYPE_CHECKING

from tritstream.scripts.corpus import read_text

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from torch import Tensor

__all__ = ["WINDOW", "text_windows"]

#: Number of tokens per window.
WINDOW = 512


def text_windows(model: Path, text: Path, count: int | None = None) -> "list[Tensor]":
    """Return the token ids of a text, or its first ``count`` tokens, in windows, int64 (T,) each.

    Raises :class:`ValueError` if no token remains.
    """
    from torch import tensor

    from tritstream.host.model.load import load_tokenizer
    from tritstream.host.model.scoring import tokenize

    ids = tokenize(load_tokenizer(model), read_text(text).text).ids
    ids = ids if count is None else ids[:max(0, count)]
    if not len(ids):
        raise ValueError(f"{text}: gives no token to read; give a longer text or more tokens")
    return list(tensor(ids).split(WINDOW))
