"""Devices by name: what a person writes to say on which device, or devices, work is done."""

import re
from collections.abc import Callable
from typing import Any

from host.device import Device
from host.native_transport import NativeTransport
from host.thread_transport import ThreadTransport
from hw.config import DeviceConfig
from sim.build import build_native, device_rtl
from sim.native import NativeDevice

__all__ = ["open_device"]

# A scheme, then an address or the first option.
_SPEC = re.compile(r"(?P<scheme>\w+)(://(?P<address>[^,]*)|:(?=\w+=)|(?=,|$)),?(?P<options>.*)")


def open_device(spec: str = "sim", config: DeviceConfig | None = None,
                rtl: str | None = None) -> Device:
    """Open a device; close it, or use it in ``async with``.

    Nothing is asked of it yet: its first method tells whether it answers.

    Parameters
    ----------
    spec : str
        ``sim``, a simulated device in this process, or ``sim:lanes=64,columns=4,max_k=4096``.
    config : DeviceConfig, optional
        What a simulated device is where its options do not tell.
    rtl : str, optional
        Verilog to simulate in place of the one generated.

    Raises :class:`ValueError` for a spec that names no device, and what opening it raises.
    """
    found = _SPEC.fullmatch(spec)
    if not found or found["scheme"] not in _SCHEMES:
        raise ValueError(f"no device {spec!r}; there are {', '.join(_SCHEMES)}")
    options = dict(_option(spec, text) for text in filter(None, found["options"].split(",")))
    return _SCHEMES[found["scheme"]](spec, found["address"], options, config or DeviceConfig(),
                                    rtl)


def _option(spec: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{spec}: option {text!r} must be NAME=VALUE")
    return name, value


def _values(spec: str, options: dict[str, str], kinds: dict[str, Callable]) -> dict[str, Any]:
    """Options as values of their kinds."""
    values = {}
    for name, text in options.items():
        if name not in kinds:
            raise ValueError(f"{spec}: no option {name!r}; there are {', '.join(kinds)}")
        try:
            values[name] = kinds[name](text)
        except ValueError:
            raise ValueError(f"{spec}: {name} must be a number, not {text!r}") from None
    return values


def _simulated(spec, address, options, config, rtl) -> Device:
    if address is not None:
        raise ValueError(f"{spec}: a simulated device has no address; write sim")
    chosen = {"lanes": config.lanes, "columns": config.columns, "max_k": config.max_k}
    config = DeviceConfig(**chosen | _values(spec, options, dict.fromkeys(chosen, int)))
    build = build_native(config.lanes, rtl or device_rtl(config))
    transport = ThreadTransport(NativeTransport(NativeDevice(build.library)))
    return Device(transport, name=spec)


#: What opens the devices of a scheme.
_SCHEMES: dict[str, Callable[..., Device]] = {"sim": _simulated}
