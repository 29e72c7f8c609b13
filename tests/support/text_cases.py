"""Text to score models on."""

import numpy as np

__all__ = ["make_text"]

_WORDS = ("she had always wished to be a good sister and now was the very first of an evening, in "
          "which he could not but think that Mrs. Weston's café — so dear! — would suit £5.\n\n"
          "“Indeed,” said Anne; nothing had happened since").split(" ")


def make_text(count, seed=0):
    """Return ``count`` random words, some of which are not ASCII."""
    return " ".join(np.random.default_rng(seed).choice(_WORDS, count))
