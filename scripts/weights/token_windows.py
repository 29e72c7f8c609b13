"""Windows of tokens, in which a calibration text is read."""

from pathlib import Path
from typing import TYPE_CHECKING

from tritstream.scripts.corpus import read_text

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from torch import Tensor

__all__ = ["WINDOW", "text_windows"]

#: Tokens that are read at a time.
WINDOW = 512


def text_windows(model: Path, text: Path, count: int | None = None) -> "list[Tensor]":
    """Token ids of a text, or of its first ``count`` tokens, in windows.

    Raises :class:`ValueError` when there is none.
    """
    from torch import tensor

    from tritstream.host.model.load import load_tokenizer
    from tritstream.host.model.scoring import tokenize

    ids = tokenize(load_tokenizer(model), read_text(text).text).ids
    ids = ids if count is None else ids[:max(0, count)]
    if not len(ids):
        raise ValueError(f"{text}: gives no token to read; give a longer text or more tokens")
    return list(tensor(ids).split(WINDOW))
