"""Methods: how a matrix becomes integers, codes and a table, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from golden.groups import RowReader
from golden.kernels import load
from golden.quantize import CODEC, Encoded, choose_scales

__all__ = ["METHODS", "Encoder", "Method", "method_of"]

#: Encodes weights (N, K) of any float dtype at a depth; the name is for messages.
Encoder = Callable[[np.ndarray | RowReader, int, str], Encoded]


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
    engine : str or None
        Of :mod:`golden.kernels`, for what is done with the matrix; decides no byte.
    memory : float
        Bytes a weight that encoding holds at most, besides the weights.
    by_rows : bool
        Whether ``encode`` takes a :class:`golden.groups.RowReader` too, so that nobody holds the
        weights.
    """

    codec:    str
    encode:   Encoder
    settings: Mapping[str, object] = field(default_factory=dict)
    engine:   str | None = None
    memory:   float = 3.0
    by_rows:  bool = False


#: By name, what encodes a matrix without any more settings; it takes an ``engine`` too.
METHODS: dict[str, Callable[..., Encoded]] = {CODEC: choose_scales}

#: What differs from the defaults: scales of groups are held, and tiles that wait to be written.
_COSTS = {CODEC: {"memory": 1.0, "by_rows": True}}


def method_of(name: str, engine: str | None = None) -> Method:
    """A method by its name, on an engine, by default on the fastest there is.

    Raises :class:`ValueError` when there is none of that name, or not that engine.
    """
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {name}")
    load(engine)
    return Method(name, partial(METHODS[name], engine=engine), engine=engine,
                  **_COSTS.get(name, {}))
