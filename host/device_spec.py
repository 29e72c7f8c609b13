"""Specifications of devices as text: ``sim``, ``tcp://HOST:PORT``, ``serial:/dev/ttyUSB0``.

A device is ``SCHEME``, ``SCHEME:OPTIONS``, ``SCHEME://ADDRESS`` or ``SCHEME://ADDRESS,OPTIONS``.
Options are ``NAME=VALUE``, separated by commas. A serial port is ``serial:PORT`` or
``serial:PORT,OPTIONS``, a board with memory on one is ``uartbone:PORT``, and a memory-mapped core
is ``uio:NAME,OPTIONS``, ``pcie:CARD,OPTIONS`` or ``pynq:FILE,OPTIONS``. Several devices are
separated by commas too. ``spare:`` before a device means that it is used when another one fails,
and ``layers:`` before all of them that each device multiplies complete layers of a model.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["DEVICES", "SIMULATED", "Spec", "is_by_layers", "parse_specs"]

#: Examples of all kinds of devices, for messages and help.
DEVICES = ("sim, sim:lanes=64,columns=4, axi-sim:channels=4,lanes=32, tcp://HOST:PORT, udp://HOST, "
           "dask://HOST:8786,devices=4, uio:uio0,buffer=udmabuf0, "
           "pcie:0000:03:00.0,buffer=udmabuf0, pynq:kv260.bit,memory=512, "
           "uartbone:/dev/ttyUSB0 and "
           "serial:/dev/ttyUSB0,baud=3000000")

#: Schemes of devices that are simulated in this process, and all schemes.
SIMULATED = ("sim", "axi-sim")
_SCHEMES  = (*SIMULATED, "tcp", "udp", "dask", "serial", "uartbone", "uio", "pcie", "pynq")
#: Schemes whose address is a name, and not a host.
_NAMES = "serial|uartbone|uio|pcie|pynq"

#: Before the spec of a spare, and before specs of devices that have complete layers.
_SPARE, _LAYERS = "spare:", "layers:"

_SPEC = re.compile(
    r"(?P<scheme>[\w-]+)(://(?P<address>[^,]+),?|:(?=\w+=)|)(?P<options>(\w+=.*)?)")
_NAMED = re.compile(
    rf"(?P<scheme>{_NAMES}):(//)?(?P<address>(?!\w+=)[^,]+)(,(?P<options>\w+=.*))?")


@dataclass(frozen=True)
class Spec:
    """Specification of one device: its text, the parts of that text, and whether it is a spare."""

    text:    str
    scheme:  str
    address: str | None
    options: dict[str, str]
    spare:   bool = False

    def values(self, **kinds: Callable[[str], Any]) -> dict[str, Any]:
        """Return the options, converted by ``kinds``.

        Raises :class:`ValueError` for an unknown option or an invalid value.
        """
        values = {}
        for name, text in self.options.items():
            if name not in kinds:
                raise ValueError(f"{self.text}: no option {name!r}; there are {', '.join(kinds)}")
            try:
                values[name] = kinds[name](text)
            except ValueError as error:
                reason = (f"{name} must be a number, not {text!r}"
                          if kinds[name] in (int, float) else error)
                raise ValueError(f"{self.text}: {reason}") from None
        return values


def parse_specs(specs: str | Sequence[str]) -> list[Spec]:
    """Parse the text of devices; raises :class:`ValueError` if it is invalid.

    A spec of a cluster that counts several devices gives as many specs, and then its spares.
    """
    texts: list[str] = []
    for piece in _text(specs).removeprefix(_LAYERS).split(","):
        if texts and re.match(r"\w+=", piece):
            texts[-1] += f",{piece}"
        else:
            texts.append(piece)
    found = [spec for text in texts for spec in _counted(_parse(text))]
    if is_by_layers(specs) and sum(not spec.spare for spec in found) < 2:
        raise ValueError(f"{_text(specs)}: one device has all layers; give several, or leave "
                         f"{_LAYERS} out")
    return found


def is_by_layers(specs: str | Sequence[str]) -> bool:
    """Return whether each of the devices is to have complete layers of a model."""
    return _text(specs).startswith(_LAYERS)


def _text(specs: str | Sequence[str]) -> str:
    return specs if isinstance(specs, str) else ",".join(specs)


def _parse(text: str) -> Spec:
    spare, text = text.startswith(_SPARE), text.removeprefix(_SPARE)
    match = (_NAMED if re.match(rf"({_NAMES})\b", text) else _SPEC).fullmatch(text)
    if not match or match["scheme"] not in _SCHEMES:
        raise ValueError(f"no device {text!r}; there are {DEVICES}{_hint(text)}")
    options = dict(option.split("=", 1)
                   for option in filter(None, (match["options"] or "").split(",")))
    return Spec(text, match["scheme"], match["address"], options, spare)


def _counted(spec: Spec) -> list[Spec]:
    """Return the specs of all devices and spares that a spec of a cluster counts."""
    if spec.scheme != "dask":
        return [spec]
    counts = {name: text for name, text in spec.options.items() if name in ("devices", "spares")}
    numbers = replace(spec, options=counts).values(devices=int, spares=int)
    devices = numbers.get("devices", 1)
    spares = 0 if spec.spare else numbers.get("spares", devices)
    if devices < 1 or spares < 0:
        raise ValueError(f"{spec.text}: devices must be at least 1 and spares at least 0")
    one = replace(spec, options={
        name: text for name, text in spec.options.items() if name not in counts})
    return [one] * devices + [replace(one, spare=True)] * spares


def _hint(text: str) -> str:
    """Return a suggestion: a port, or a URL of pyserial, needs the scheme ``serial:``."""
    is_port = re.match(r"/dev/|(?i:com)\d+\b|(socket|rfc2217|hwgrep)://", text)
    return f"; write serial:{text}" if is_port else ""
