"""Targets: cards and boards with memory, from the table of this package or from a file."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from tritstream.golden.fixed_point import MAX_K
from tritstream.golden.strict_json import parse_json
from tritstream.host.placement.cutting import Unit
from tritstream.hw.config import DeviceConfig

__all__ = ["Target", "find_target", "target_names"]

#: Bytes per channel for directory, requests and responses, as on the boards with memory.
_RESERVED = (1 << 18) + (1 << 18) + (1 << 20)


@dataclass(frozen=True)
class Target:
    """A kind of card or board. ``targets.toml`` describes the members.

    Raises :class:`ValueError` for a value that is out of range.
    """

    channels:  int
    memory:    int
    bandwidth: float
    share:     float
    lanes:     int
    clock:     float
    name:      str = ""
    title:     str = ""
    max_k:     int = MAX_K
    reserved:  int = _RESERVED
    write:     float | None = None
    read:      float | None = None
    sources:   Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("channels", "memory", "bandwidth", "clock", "write", "read"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value!r}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {self.share!r}")
        if not 0 <= self.reserved < self.memory:
            raise ValueError(f"reserved must be less than the memory, not {self.reserved!r}")
        if (self.write is None) != (self.read is None):
            raise ValueError("write and read go together: give both or none")
        DeviceConfig(lanes=self.lanes, max_k=self.max_k)

    @property
    def rate(self) -> float:
        """Words per second that reach an engine while it reads weights."""
        return min(self.clock, self.bandwidth * self.share / self.lanes)

    def units(self, cards: int) -> list[Unit]:
        """Return the channels of so many cards."""
        return [Unit(f"card {card}, channel {channel}", self.lanes, self.max_k, self.rate,
                     self.memory - self.reserved, card)
                for card in range(cards) for channel in range(self.channels)]


def target_names() -> list[str]:
    """Return the names of the targets in the table."""
    return list(_table())


def find_target(name: str) -> Target:
    """Return a target of the table, or the one that a TOML or JSON file describes.

    Raises :class:`ValueError` if there is neither, or if the file is not right.
    """
    if name in _table():
        return _target(name, _table()[name], name)
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"no target {name!r}; there are {', '.join(target_names())}, or give a "
                         "TOML or JSON file")
    text = path.read_bytes()
    try:
        values = (parse_json(text) if path.suffix == ".json" else tomllib.loads(text.decode()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return _target(path.stem, values, str(path))


def _table() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("targets.toml").read_text())


#: Kinds of the values of a file by type, and their names: an integer is a number too.
_KINDS: dict[Any, tuple[type | tuple[type, ...], str]] = {
    int: (int, "an integer"), float: ((int, float), "a number"), str: (str, "a text"),
    float | None: ((int, float), "a number")}


def _target(name: str, values: dict[str, Any], where: str) -> Target:
    known = {one.name: one for one in fields(Target)}
    if not isinstance(values, dict):
        raise ValueError(f"{where}: a target is a table of {', '.join(known)}")
    missing = [key for key, one in known.items() if key not in values and one.default is MISSING
               and one.default_factory is MISSING]
    if missing:
        raise ValueError(f"{where}: {missing[0]} is missing")
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{where}: no key {key!r}; there are {', '.join(known)}")
        kind, noun = _KINDS.get(known[key].type, (dict, "a table"))
        if isinstance(value, bool) or not isinstance(value, kind):
            raise ValueError(f"{where}: {key} must be {noun}, not {value!r}")
    named: dict[str, Any] = {"name": name, "title": name} | values
    try:
        return Target(**named)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
