"""Methods: how a matrix becomes integers, codes and a table, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from golden.quantize import CODEC, TritMatrix, quantize

__all__ = ["METHODS", "Encoder", "Method", "method_of"]

#: Encodes weights (N, K) of any float dtype at a depth; the name is for messages.
Encoder = Callable[[np.ndarray, int, str], TritMatrix]


@dataclass(frozen=True)
class Method:
    """What a packed checkpoint is made with; it can be pickled.

    Members
    -------
    codec : str
        Name of the profile in config.json.
    encode : Encoder
        The same weights, depth and name always give the same matrix.
    settings : mapping
        What else decides the bytes, as JSON can hold it: part of the job's identity.
    """

    codec:    str
    encode:   Encoder
    settings: Mapping[str, object] = field(default_factory=dict)


#: By name, what encodes a matrix without any more settings.
METHODS: dict[str, Encoder] = {CODEC: quantize}


def method_of(name: str) -> Method:
    """A method by its name; raises :class:`ValueError` when there is none of that name."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {name}")
    return Method(name, METHODS[name])
