"""Methods: how a matrix becomes integers, codes and a table, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from tritstream.golden.groups import WeightRows
from tritstream.golden.kernels import load
from tritstream.golden.matrix import Encoded
from tritstream.golden.quantize import CODEC, choose_scales
from tritstream.golden.quantizers.error_feedback import feed_back
from tritstream.golden.quantizers.moments import Moment, Moments
from tritstream.golden.quantizers.search import SEARCH, search

__all__ = ["DEFAULT", "METHODS", "Encoder", "Method", "check_method", "method_of"]

#: Encodes weights (N, K) of any float dtype, an array or read by rows, at a depth; the name is for
#: messages.
Encoder = Callable[[WeightRows, int, str], Encoded]


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
        What else decides the bytes, as JSON can hold it: part of the job's identity, and noted in
        config.json.
    engine : str or None
        Of :mod:`tritstream.golden.kernels`, for what is done with the matrix; decides no byte.
    memory : float
        Bytes a weight that encoding holds at most, besides the weights.
    moments : Path or None
        The file of :mod:`tritstream.golden.quantizers.moments` that calibrates.
    """

    codec:    str
    encode:   Encoder
    settings: Mapping[str, object] = field(default_factory=dict)
    engine:   str | None = None
    memory:   float = 3.0
    moments:  Path | None = None

    def moment(self, name: str, shape: tuple[int, int]) -> Moment | None:
        """Moments of the matrix of a tensor, where there is a calibration that knows it."""
        return self.moments and _moment(self.moments, name, tuple(shape))


#: By name, what encodes a matrix without any more settings; it takes an ``engine`` too.
METHODS: dict[str, Callable[..., Encoded]] = {CODEC: choose_scales, SEARCH: search}

#: The method that quantizes when none is given.
DEFAULT = SEARCH

#: Bytes a weight: scales or codes are held, and tiles that wait to be written.
_MEMORY = {CODEC: 1.0, SEARCH: 1.5}


def method_of(
    name: str, engine: str | None = None, calibration: Path | None = None,
) -> Method:
    """A method by its name, on an engine, by default on the fastest there is.

    With a file of :mod:`tritstream.golden.quantizers.moments`, ``search`` lets weights make up for each other's errors.

    Raises :class:`ValueError` as :func:`check_method` does, and when there is not that engine,
    :class:`tritstream.golden.errors.CheckpointError` for a wrong file.
    """
    check_method(name, calibration is not None)
    load(engine)
    if calibration is None:
        return Method(name, partial(METHODS[name], engine=engine), engine=engine,
                      memory=_MEMORY[name])
    moments = Moments(calibration)
    path = moments.path.absolute()
    settings = {"calibration": {**moments.made_of, "sha256": moments.sha256}}
    return Method(name, partial(_calibrated, path=path, engine=engine), settings, engine,
                  moments=path)


def check_method(name: str, calibrated: bool = False) -> None:
    """Raises :class:`ValueError` for a method that there is not, or not with a calibration."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {name}")
    if calibrated and name != SEARCH:
        raise ValueError(f"method {name} makes nothing of a calibration; take method {SEARCH}")


def _calibrated(
    weights: WeightRows, depth: int, name: str, *, path: Path, engine: str | None,
) -> Encoded:
    moment = _moment(path, name, tuple(weights.shape))
    if moment is None:
        return search(weights, depth, name, engine=engine)
    return feed_back(weights, depth, moment, name, engine=engine)


def _moment(path: Path, name: str, shape: tuple[int, int]) -> Moment | None:
    """Moments of a matrix; None of an embedding that no head shares, for nothing multiplies it."""
    moments, module = _moments(path), name.removesuffix(".weight")
    if module not in moments and "embed" in module:
        return None
    return moments.of(module, shape)


@cache
def _moments(path: Path) -> Moments:
    return Moments(path)
