"""Devices by name: what a person writes to say on which device, or devices, work is done.

A device is ``SCHEME``, ``SCHEME:OPTIONS``, ``SCHEME://ADDRESS`` or ``SCHEME://ADDRESS,OPTIONS``,
options being ``NAME=VALUE`` with commas between. A serial port is ``serial:PORT`` or
``serial:PORT,OPTIONS``. Several devices have commas between them too.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from tritstream.host.board.bus import BOARD_PORT, BoardLink
from tritstream.host.board.transport import BoardTransport
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.protocol.exchange import SEQUENCES
from tritstream.host.transports.base import Transport
from tritstream.host.transports.native import NativeTransport
from tritstream.host.transports.serial_line import BAUD, SerialTransport
from tritstream.host.transports.tcp import SocketTransport
from tritstream.host.transports.threaded import ThreadTransport
from tritstream.hw.config import DeviceConfig
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

__all__ = ["DEVICES", "Spec", "open_device", "open_transport", "parse_specs", "simulate"]

#: Each device needs sequence numbers of its own, and a few of them.
_MOST = 32

#: What there is to name, for messages and help.
DEVICES = ("sim, sim:lanes=64,columns=4, tcp://HOST:PORT, udp://HOST and "
           "serial:/dev/ttyUSB0,baud=3000000")

_SPEC = re.compile(r"(?P<scheme>\w+)(://(?P<address>[^,]+),?|:(?=\w+=)|)(?P<options>(\w+=.*)?)")
_SERIAL = re.compile(
    r"(?P<scheme>serial):(//)?(?P<address>(?!\w+=)[^,]+)(,(?P<options>\w+=.*))?")


@dataclass(frozen=True)
class Spec:
    """One device, as written and in its parts."""

    text:    str
    scheme:  str
    address: str | None
    options: dict[str, str]

    def values(self, **kinds: Callable[[str], Any]) -> dict[str, Any]:
        """Options as values of these kinds; raises :class:`ValueError` for any other option."""
        values = {}
        for name, text in self.options.items():
            if name not in kinds:
                raise ValueError(f"{self.text}: no option {name!r}; there are {', '.join(kinds)}")
            try:
                values[name] = kinds[name](text)
            except ValueError:
                raise ValueError(f"{self.text}: {name} must be a number, not {text!r}") from None
        return values


class _Opener(Protocol):
    """Opens the device of a spec; what is simulated follows a configuration, or given Verilog."""

    def __call__(self, spec: Spec, config: DeviceConfig, rtl: str | None) -> Transport: ...


def open_device(
    specs: str | Sequence[str] = "sim", config: DeviceConfig | None = None, rtl: str | None = None,
) -> Device | DeviceGroup:
    """Open a device, or several as one; close it, or use it in ``async with``.

    Nothing is asked of a device yet: its first method tells whether it answers.

    Parameters
    ----------
    specs : str or sequence of str
        ``sim``, a simulated device in this process; ``sim:lanes=64,columns=4,max_k=4096``;
        ``tcp://HOST:PORT``, one that `tritstream serve` serves, ``tcp://HOST:PORT,timeout=5``;
        ``udp://HOST``, a board with memory, ``udp://HOST:1234,bind=0,repeat=0.05,window=2``;
        ``serial:/dev/ttyUSB0``, ``serial:COM3,baud=115200,timeout=1``, a board on a serial port of
        :class:`tritstream.host.transports.port.Port`, among them ``serial:socket://HOST:PORT``;
        ``sim,sim``, two that share the rows of each matrix.
    config : DeviceConfig, optional
        What simulated devices are where their options do not tell.
    rtl : str, optional
        Verilog to simulate in place of the one generated.

    Raises :class:`ValueError` for what names no device, and what opening one raises.
    """
    found = parse_specs(specs)
    if len(found) > _MOST:
        raise ValueError(f"{len(found)} devices are too many; {_MOST} can work together")
    if rtl and not any(spec.scheme == "sim" for spec in found):
        raise ValueError(f"{found[0].text}: Verilog is for simulated devices only")
    with ExitStack() as stack:
        transports = [stack.enter_context(closing(
            _SCHEMES[spec.scheme](spec, config or DeviceConfig(), rtl))) for spec in found]
        stack.pop_all()
    devices = [_device(transports, found, index) for index in range(len(found))]
    return devices[0] if len(devices) == 1 else DeviceGroup(devices)


def open_transport(spec: str, config: DeviceConfig | None = None) -> Transport:
    """What carries the bytes of one device, written as for :func:`open_device`; close it.

    Raises :class:`ValueError` for what names none or several.
    """
    found = parse_specs(spec)
    if len(found) != 1:
        raise ValueError(f"{spec}: give one device")
    return _SCHEMES[found[0].scheme](found[0], config or DeviceConfig(), None)


def parse_specs(specs: str | Sequence[str]) -> list[Spec]:
    """Devices as they are written; raises :class:`ValueError` for what names none."""
    texts: list[str] = []
    for piece in (specs if isinstance(specs, str) else ",".join(specs)).split(","):
        if texts and re.match(r"\w+=", piece):
            texts[-1] += f",{piece}"
        else:
            texts.append(piece)
    return [_parse(text) for text in texts]


def _parse(text: str) -> Spec:
    found = (_SERIAL if re.match(r"serial\b", text) else _SPEC).fullmatch(text)
    if not found or found["scheme"] not in _SCHEMES:
        raise ValueError(f"no device {text!r}; there are {DEVICES}{_hint(text)}")
    options = dict(option.split("=", 1)
                   for option in filter(None, (found["options"] or "").split(",")))
    return Spec(text, found["scheme"], found["address"], options)


def _hint(text: str) -> str:
    """What was perhaps meant: a port, or a URL of pyserial, needs its scheme before it."""
    is_port = re.match(r"/dev/|(?i:com)\d+\b|(socket|rfc2217|hwgrep)://", text)
    return f"; write serial:{text}" if is_port else ""


def _device(transports: Sequence[Transport], specs: Sequence[Spec], index: int) -> Device:
    """One of several devices: no two share a name or a sequence number."""
    count = len(specs)
    name = f"{specs[index].text} ({index + 1} of {count})" if count > 1 else specs[index].text
    return Device(transports[index], name=name, sequences=SEQUENCES[index::count])


def simulate(spec: Spec, config: DeviceConfig, rtl: str | None = None) -> NativeTransport:
    """A simulated device."""
    if spec.address is not None:
        raise ValueError(f"{spec.text}: a simulated device has no address; write sim")
    sizes = {"lanes": config.lanes, "columns": config.columns, "max_k": config.max_k}
    config = DeviceConfig(**sizes | spec.values(**dict.fromkeys(sizes, int)), build_id=None)
    build = build_native(config.lanes, rtl or device_rtl(config))
    return NativeTransport(NativeDevice(build.library),
                           {"engine": build.engine, "rtl_sha256": build.rtl_sha256})


def _simulate_in_thread(spec: Spec, config: DeviceConfig, rtl: str | None) -> Transport:
    return ThreadTransport(simulate(spec, config, rtl))


def _place(spec: Spec, port: int | None = None) -> tuple[str, int]:
    """Host and port of a spec; ``port`` where it tells none."""
    try:
        place = urlsplit(spec.text.split(",")[0])
        host, port = place.hostname, place.port or port
    except ValueError:
        host = None
    if not (host and port and place.netloc == spec.address):
        raise ValueError(f"{spec.text}: write {spec.scheme}://HOST:PORT")
    return host, port


def _connect(spec: Spec, *_: Any) -> Transport:
    return SocketTransport(*_place(spec), **spec.values(timeout=float))


def _reach(spec: Spec, *_: Any) -> Transport:
    """A board; answers come to the port that it is asked at, unless ``bind`` tells another."""
    host, port = _place(spec, BOARD_PORT)
    options = spec.values(bind=int, timeout=float, repeat=float, tries=int, window=int)
    silence = {"timeout": options.pop("timeout")} if "timeout" in options else {}
    if "repeat" in options:
        options["timeout"] = options.pop("repeat")
    link = BoardLink(host, port, options.pop("bind", port), **options)
    return BoardTransport(link, **silence)


def _plug(spec: Spec, *_: Any) -> Transport:
    """A board on a serial port; in a thread, for its methods wait for the line."""
    options = {"baud": BAUD, **spec.values(baud=int, timeout=float)}
    return ThreadTransport(SerialTransport(str(spec.address), **options))


_SCHEMES: dict[str, _Opener] = {
    "sim": _simulate_in_thread, "tcp": _connect, "udp": _reach, "serial": _plug}
