"""Open devices that are specified by text: ``sim``, ``tcp://HOST:PORT``, ``serial:/dev/ttyUSB0``.

A device is ``SCHEME``, ``SCHEME:OPTIONS``, ``SCHEME://ADDRESS`` or ``SCHEME://ADDRESS,OPTIONS``.
Options are ``NAME=VALUE``, separated by commas. A serial port is ``serial:PORT`` or
``serial:PORT,OPTIONS``. Several devices are separated by commas too. ``spare:`` before a device
means that it is used when another one fails.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from tritstream.host.board.bus import BOARD_PORT, BoardLink
from tritstream.host.board.transport import BoardTransport
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.failover import FailoverGroup
from tritstream.host.protocol.exchange import SEQUENCES
from tritstream.host.servers.cluster import Cluster, ClusterTransport
from tritstream.host.transports.base import Transport
from tritstream.host.transports.device_key import read_key
from tritstream.host.transports.native import NativeTransport, simulated
from tritstream.host.transports.serial_line import BAUD, SerialTransport
from tritstream.host.transports.tcp import SocketTransport
from tritstream.host.transports.threaded import ThreadTransport
from tritstream.hw.config import DeviceConfig

__all__ = ["DEVICES", "Spec", "open_device", "open_transport", "parse_specs", "simulate"]

#: Most devices of a group, because each needs several sequence numbers of its own.
_MOST = 32

#: Examples of all kinds of devices, for messages and help.
DEVICES = ("sim, sim:lanes=64,columns=4, tcp://HOST:PORT, udp://HOST, dask://HOST:8786,devices=4 "
           "and serial:/dev/ttyUSB0,baud=3000000")

_SPEC = re.compile(r"(?P<scheme>\w+)(://(?P<address>[^,]+),?|:(?=\w+=)|)(?P<options>(\w+=.*)?)")
_SERIAL = re.compile(
    r"(?P<scheme>serial):(//)?(?P<address>(?!\w+=)[^,]+)(,(?P<options>\w+=.*))?")


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


#: Before the spec of a spare.
_SPARE = "spare:"

#: Opens the device of a spec. Simulations need a configuration or Verilog.
_Opener = Callable[[Spec, DeviceConfig, str | None], Transport]


def open_device(
    specs: str | Sequence[str] = "sim", config: DeviceConfig | None = None, rtl: str | None = None,
) -> Device | DeviceGroup:
    """Open a device, or several as one. Close it, or use it in ``async with``.

    No request is sent yet, so a device that does not respond is noticed at the first method call.

    Parameters
    ----------
    specs : str or sequence of str
        Devices. ``sim`` or ``sim:lanes=64,columns=4,max_k=4096`` is a simulated device in this
        process. ``tcp://HOST:PORT`` or ``tcp://HOST:PORT,timeout=5,key=FILE`` is a device that
        `tritstream share-device` shares. ``udp://HOST`` or
        ``udp://HOST:1234,bind=0,repeat=0.05,window=2`` is a board with memory.
        ``dask://HOST:8786,devices=4`` are devices of four workers of a Dask cluster, and as many
        spares: :class:`.Cluster`. ``serial:/dev/ttyUSB0`` or
        ``serial:COM3,baud=115200,timeout=1`` is a board on any port that
        :class:`tritstream.host.transports.port.Port` opens, such as ``serial:socket://HOST:PORT``.
        ``sim,sim`` are two devices that share the rows of each matrix.
        ``tcp://A:7354,spare:tcp://B:7354`` is a device and a spare for the case that it fails:
        :class:`.FailoverGroup`.
    config : DeviceConfig, optional
        Sizes of simulated devices, unless their options override them.
    rtl : str, optional
        Verilog to simulate instead of the generated one.

    Raises :class:`ValueError` for an invalid specification, :class:`.TransportClosed` for a device
    that cannot be opened.
    """
    parsed = [each for spec in parse_specs(specs) for each in _expanded(spec)]
    if all(spec.spare for spec in parsed):
        raise ValueError(f"spare:{parsed[0].text}: a spare needs a device that it can replace")
    if len(parsed) > _MOST:
        raise ValueError(f"{len(parsed)} devices are too many; {_MOST} can work together")
    if rtl and not any(spec.scheme == "sim" for spec in parsed):
        raise ValueError(f"{parsed[0].text}: Verilog is for simulated devices only")
    with ExitStack() as stack:
        transports = [stack.enter_context(closing(
            _SCHEMES[spec.scheme](spec, config or DeviceConfig(), rtl))) for spec in parsed]
        stack.pop_all()
    devices = [_device(transports, parsed, index) for index in range(len(parsed))]
    if len(devices) == 1:
        return devices[0]
    spares = [device for device, spec in zip(devices, parsed, strict=True) if spec.spare]
    return FailoverGroup([device for device in devices if device not in spares], spares)


def open_transport(spec: str, config: DeviceConfig | None = None) -> Transport:
    """Open the transport to one device, specified as for :func:`open_device`. Close it.

    Raises :class:`ValueError` for an invalid specification or several devices.
    """
    parsed = parse_specs(spec)
    if len(parsed) != 1 or parsed[0].spare:
        raise ValueError(f"{spec}: give one device")
    return _SCHEMES[parsed[0].scheme](parsed[0], config or DeviceConfig(), None)


def parse_specs(specs: str | Sequence[str]) -> list[Spec]:
    """Parse the text of devices; raises :class:`ValueError` if it is invalid."""
    texts: list[str] = []
    for piece in (specs if isinstance(specs, str) else ",".join(specs)).split(","):
        if texts and re.match(r"\w+=", piece):
            texts[-1] += f",{piece}"
        else:
            texts.append(piece)
    return [_parse(text) for text in texts]


def _parse(text: str) -> Spec:
    spare, text = text.startswith(_SPARE), text.removeprefix(_SPARE)
    match = (_SERIAL if re.match(r"serial\b", text) else _SPEC).fullmatch(text)
    if not match or match["scheme"] not in _SCHEMES:
        raise ValueError(f"no device {text!r}; there are {DEVICES}{_hint(text)}")
    options = dict(option.split("=", 1)
                   for option in filter(None, (match["options"] or "").split(",")))
    return Spec(text, match["scheme"], match["address"], options, spare)


def _expanded(spec: Spec) -> list[Spec]:
    """Return a spec for each device, and then for each spare, that a spec of a cluster counts."""
    if spec.scheme != "dask":
        return [spec]
    rest = {name: text for name, text in spec.options.items() if name not in ("devices", "spares")}
    counts = Spec(spec.text, spec.scheme, spec.address, {
        name: text for name, text in spec.options.items() if name not in rest}).values(
            devices=int, spares=int)
    devices = counts.get("devices", 1)
    spares = 0 if spec.spare else counts.get("spares", devices)
    if devices < 1 or spares < 0:
        raise ValueError(f"{spec.text}: devices must be at least 1 and spares at least 0")
    return ([replace(spec, options=rest)] * devices
            + [replace(spec, options=rest, spare=True)] * spares)


def _hint(text: str) -> str:
    """Return a suggestion: a port, or a URL of pyserial, needs the scheme ``serial:``."""
    is_port = re.match(r"/dev/|(?i:com)\d+\b|(socket|rfc2217|hwgrep)://", text)
    return f"; write serial:{text}" if is_port else ""


def _device(transports: Sequence[Transport], specs: Sequence[Spec], index: int) -> Device:
    """Return one of several devices, which share no name and no sequence number."""
    count = len(specs)
    name = f"{specs[index].text} ({index + 1} of {count})" if count > 1 else specs[index].text
    return Device(transports[index], name=name, sequences=SEQUENCES[index::count])


def simulate(spec: Spec, config: DeviceConfig, rtl: str | None = None) -> NativeTransport:
    """Return the transport to a simulated device, whose options override ``config``."""
    if spec.address is not None:
        raise ValueError(f"{spec.text}: a simulated device has no address; write sim")
    sizes = {"lanes": config.lanes, "columns": config.columns, "max_k": config.max_k}
    options = spec.values(**dict.fromkeys(sizes, int))
    return simulated(DeviceConfig(**sizes | options, build_id=None), rtl)


def _open_sim(spec: Spec, config: DeviceConfig, rtl: str | None) -> Transport:
    return ThreadTransport(simulate(spec, config, rtl))


def _host_and_port(spec: Spec, port: int | None = None) -> tuple[str, int]:
    """Return host and port of a spec; ``port`` is the default of the latter."""
    try:
        url = urlsplit(spec.text.split(",")[0])
        host, port = url.hostname, url.port or port
    except ValueError:
        host = None
    if not (host and port and url.netloc == spec.address):
        raise ValueError(f"{spec.text}: write {spec.scheme}://HOST:PORT")
    return host, port


def _open_tcp(spec: Spec, *_: Any) -> Transport:
    return SocketTransport(*_host_and_port(spec), **spec.values(timeout=float, key=read_key))


def _open_udp(spec: Spec, *_: Any) -> Transport:
    """Open a board. Its responses come to the port of the board, unless ``bind`` is another."""
    host, port = _host_and_port(spec, BOARD_PORT)
    options = spec.values(bind=int, timeout=float, repeat=float, tries=int, window=int)
    silence = {"timeout": options.pop("timeout")} if "timeout" in options else {}
    if "repeat" in options:
        options["timeout"] = options.pop("repeat")
    link = BoardLink(host, port, options.pop("bind", port), **options)
    return BoardTransport(link, **silence)


def _open_dask(spec: Spec, config: DeviceConfig, _: str | None) -> Transport:
    """Open a device of a cluster. A scheduler with TLS is ``dask://HOST:8786,tls=1``."""
    host, port = _host_and_port(spec, 8786)
    sizes = {"lanes": config.lanes, "columns": config.columns, "max_k": config.max_k}
    options = spec.values(**dict.fromkeys(sizes, int), timeout=float, wait=float, tls=int)
    waits = {new: options.pop(old) for old, new in (("timeout", "timeout"), ("wait", "patience"))
             if old in options}
    scheme = "tls" if options.pop("tls", 0) else "tcp"
    return ClusterTransport(
        _cluster(f"{scheme}://{host}:{port}", DeviceConfig(**sizes | options, build_id=None)),
        **waits)


@cache
def _cluster(address: str, config: DeviceConfig) -> Cluster:
    """Return the cluster that all transports to it share, so that no two get the same device."""
    return Cluster(address, config)


def _open_serial(spec: Spec, *_: Any) -> Transport:
    """Open a board on a serial port, in a thread because its methods wait for the line."""
    options = {"baud": BAUD, **spec.values(baud=int, timeout=float)}
    return ThreadTransport(SerialTransport(str(spec.address), **options))


_SCHEMES: dict[str, _Opener] = {
    "sim": _open_sim, "tcp": _open_tcp, "udp": _open_udp, "dask": _open_dask,
    "serial": _open_serial}
