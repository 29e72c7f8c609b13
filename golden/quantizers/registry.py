"""Quantization methods by name: how a matrix becomes integers, codes and a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from tritstream.golden.fixed_point import GROUP
from tritstream.golden.groups import WeightRows
from tritstream.golden.kernels import load
from tritstream.golden.matrix import DirectMatrix, Encoded
from tritstream.golden.quantize import CODEC, choose_scales
from tritstream.golden.quantizers.error_feedback import GROUPS, feed_back
from tritstream.golden.quantizers.grouping import GROUPING, Grouping
from tritstream.golden.quantizers.long_groups import search_groups
from tritstream.golden.quantizers.moments import Moment, Moments, digest_of
from tritstream.golden.quantizers.reconstruction import Reconstruction, is_reconstruction
from tritstream.golden.quantizers.search import SEARCH, search
from tritstream.golden.scales import CODED

__all__ = ["DEFAULT", "METHODS", "Encoder", "Method", "check_method", "method_of"]

#: Encodes weights (N, K) of any float dtype (an array or a reader) at a depth. The name is for
#: messages.
Encoder = Callable[[WeightRows, int, str], Encoded | DirectMatrix]


@dataclass(frozen=True)
class Method:
    """A quantization method with its settings. It can be pickled.

    Members
    -------
    codec : str
        Name of the profile in config.json.
    encode : Encoder
        Function that encodes a matrix. Equal weights, depth and name give the same matrix.
    settings : mapping
        Further settings that determine the bytes, as JSON values. They are part of the identity
        of the job, and are written to config.json.
    engine : str or None
        Engine of :mod:`tritstream.golden.kernels` for later work with the matrix. It changes no
        byte.
    memory : float
        Largest number of bytes per weight that encoding holds in addition to the weights.
    moments : Path or None
        Calibration file (:mod:`tritstream.golden.quantizers.moments`).
    grouping : Grouping
        Group length and kind of scales of the matrices.
    """

    codec:    str
    encode:   Encoder
    settings: Mapping[str, object] = field(default_factory=dict)
    engine:   str | None = None
    memory:   float = 3.0
    moments:  Path | None = None
    grouping: Grouping = GROUPING

    def moment(self, name: str, shape: tuple[int, ...]) -> Moment | None:
        """Return the calibration statistics for the matrix of a tensor, or None without any."""
        return None if self.moments is None else _moment(self.moments, name, shape)


#: Encoders without further settings, by method name. They also take an ``engine``.
METHODS: dict[str, Callable[..., Encoded]] = {CODEC: choose_scales, SEARCH: search}

#: Name of the default method.
DEFAULT = SEARCH

#: Bytes per weight: the scales or codes, and the tiles that wait to be written.
_MEMORY = {CODEC: 1.0, SEARCH: 1.5}
#: The same in other groups, whose integers are held as well.
_LONG_MEMORY = 3.0


def method_of(
    name: str, engine: str | None = None, calibration: Path | None = None,
    grouping: Grouping = GROUPING,
) -> Method:
    """Return a method by its name, on an engine, by default on the fastest one installed.

    With a calibration file (:mod:`tritstream.golden.quantizers.moments`), ``search`` rounds with
    error feedback; with a reconstruction file (:mod:`tritstream.golden.quantizers.reconstruction`),
    it takes the matrices of the file. It also has other groups and scales than :data:`.GROUPING`,
    of which a calibration supports coded scales in groups of up to 128, and a reconstruction none.

    Raises the errors of :func:`check_method`, :class:`ValueError` if the engine is unknown or not
    installed, and :class:`tritstream.golden.errors.CheckpointError` for an invalid file.
    """
    check_method(name, calibration is not None, grouping)
    load(engine)
    if calibration is not None:
        return _calibrated_method(name, engine, calibration.absolute(), grouping)
    if grouping != GROUPING:
        return Method(name, partial(search_groups, grouping=grouping, engine=engine),
                      grouping.settings(), engine, memory=_LONG_MEMORY, grouping=grouping)
    return Method(name, partial(METHODS[name], engine=engine), engine=engine, memory=_MEMORY[name])


def _calibrated_method(
    name: str, engine: str | None, path: Path, grouping: Grouping,
) -> Method:
    if not is_reconstruction(path):
        settings = grouping.settings() | _settings(path, Moments(path).made_of)
        return Method(name, partial(_calibrated, path=path, grouping=grouping, engine=engine),
                      settings, engine, moments=path, grouping=grouping)
    if grouping != GROUPING:
        raise ValueError(f"{path}: holds matrices in groups of {GROUP} with {CODED} scales; give "
                         "it without --group and --scales")
    return Method(name, partial(_reconstructed, path=path),
                  _settings(path, Reconstruction(path).made_of), engine)


def check_method(
    name: str, calibrated: bool = False, grouping: Grouping = GROUPING,
) -> None:
    """Raise :class:`ValueError` for an unknown method, or if it does not support the settings."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {name}")
    if calibrated and name != SEARCH:
        raise ValueError(f"method {name} does not use a calibration; use method {SEARCH}")
    if grouping != GROUPING and name != SEARCH:
        raise ValueError(f"method {name} supports groups of {GROUP} with {CODED} scales only; use "
                         f"method {SEARCH} for {grouping.scales} scales in groups of "
                         f"{grouping.group}")
    if calibrated and (grouping.scales != CODED or grouping.group not in GROUPS):
        raise ValueError(f"a calibration supports {CODED} scales in groups of "
                         f"{', '.join(map(str, GROUPS))}; quantize without one for "
                         f"{grouping.scales} scales in groups of {grouping.group}")


def _settings(path: Path, made_of: Mapping) -> dict[str, object]:
    return {"calibration": {**made_of, "sha256": digest_of(path)}}


def _reconstructed(weights: WeightRows, depth: int, name: str, *, path: Path) -> Encoded:
    return _reconstruction(path).of(name.removesuffix(".weight"), weights.shape, depth)


def _calibrated(
    weights: WeightRows, depth: int, name: str, *, path: Path, grouping: Grouping,
    engine: str | None,
) -> Encoded | DirectMatrix:
    moment = _moment(path, name, weights.shape)
    if moment is None:
        return search_groups(weights, depth, name, grouping=grouping, engine=engine)
    return feed_back(weights, depth, moment, name, group=grouping.length(weights.shape[1]),
                     engine=engine)


def _moment(path: Path, name: str, shape: tuple[int, ...]) -> Moment | None:
    """Return the statistics of a matrix, or None for an embedding that is not also the head.

    Such an embedding is looked up, not multiplied, so calibration has no statistics for it.
    """
    moments, module = _moments(path), name.removesuffix(".weight")
    if module not in moments and "embed" in module:
        return None
    return moments.of(module, (shape[0], shape[1]))


@cache
def _moments(path: Path) -> Moments:
    return Moments(path)


@cache
def _reconstruction(path: Path) -> Reconstruction:
    return Reconstruction(path)
