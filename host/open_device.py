"""Open devices that are specified by text: :mod:`tritstream.host.device_spec`."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from tritstream.host.board.linux import open_pcie, open_uio
from tritstream.host.board.pynq_overlay import open_pynq
from tritstream.host.board.simulated import open_simulated
from tritstream.host.board.soc_bus import SocBus
from tritstream.host.board.transport import BoardTransport
from tritstream.host.board.uart_link import UartLink
from tritstream.host.board.udp_link import BOARD_PORT, BoardLink
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.device_spec import Spec, is_by_layers, parse_specs
from tritstream.host.failover import FailoverGroup
from tritstream.host.protocol.exchange import SEQUENCES
from tritstream.host.servers.cluster import CLUSTER_PORT, Cluster, ClusterTransport
from tritstream.host.transports.base import Transport
from tritstream.host.transports.device_key import read_key
from tritstream.host.transports.native import NativeTransport, simulated
from tritstream.host.transports.serial_line import BAUD, SerialTransport
from tritstream.host.transports.tcp import SocketTransport
from tritstream.host.transports.threaded import ThreadTransport
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.config import DeviceConfig

__all__ = ["open_device", "open_transport", "simulate"]

#: Most devices of a group, because each needs several sequence numbers of its own.
_MOST = 32

#: Opens the transports of a spec, one per channel of a memory-mapped core. Simulations need a
#: configuration or Verilog.
_Opener = Callable[[Spec, DeviceConfig, str | None], Sequence[Transport]]


def open_device(
    specs: str | Sequence[str] = "sim", config: DeviceConfig | None = None, rtl: str | None = None,
) -> Device | DeviceGroup:
    """Open a device, or several as one. Close it, or use it in ``async with``.

    No request is sent yet, so a device that does not respond is noticed at the first method call.

    Parameters
    ----------
    specs : str or sequence of str
        Devices. ``sim`` or ``sim:lanes=64,columns=4,max_k=4096`` is a simulated device in this
        process. ``axi-sim:channels=4,lanes=32`` is a simulated memory-mapped core, whose channels
        share the rows of each matrix (:func:`.open_simulated`). ``tcp://HOST:PORT`` or
        ``tcp://HOST:PORT,timeout=5,key=FILE`` is a device that `tritstream share-device` shares.
        ``dask://HOST:8786,devices=4`` are devices of four workers of a Dask cluster, and as many
        spares (:class:`.Cluster`). ``udp://HOST`` or
        ``udp://HOST:1234,bind=0,repeat=0.05,window=2`` is a board with memory.
        ``uartbone:/dev/ttyUSB0`` or ``uartbone:/dev/ttyUSB0,baud=3000000,repeat=0.25`` is one
        without Ethernet (:class:`.UartLink`).
        ``uio:uio0,buffer=udmabuf0``, ``pcie:0000:03:00.0,buffer=udmabuf0`` and
        ``pynq:kv260.bit,memory=512`` are memory-mapped cores (:func:`.open_uio`,
        :func:`.open_pcie`, :func:`.open_pynq`).
        ``serial:/dev/ttyUSB0`` or ``serial:COM3,baud=115200,timeout=1`` is a board on any port that
        :class:`tritstream.host.transports.port.Port` opens, such as ``serial:socket://HOST:PORT``.
        ``sim,sim`` are two devices that share the rows of each matrix, and ``layers:sim,sim`` two
        that have complete layers of a model that is placed on them.
        ``tcp://A:7354,spare:tcp://B:7354`` is a device and a spare for the case that it fails:
        :class:`.FailoverGroup`.
    config : DeviceConfig, optional
        Sizes of simulated devices, unless their options override them.
    rtl : str, optional
        Verilog to simulate instead of the generated one.

    Raises :class:`ValueError` for an invalid specification, :class:`.TransportClosed` for a device
    that cannot be opened.
    """
    parsed = parse_specs(specs)
    if all(spec.spare for spec in parsed):
        raise ValueError(f"spare:{parsed[0].text}: a spare needs a device that it can replace")
    if len(parsed) > _MOST:
        raise ValueError(f"{len(parsed)} devices are too many; {_MOST} can work together")
    if rtl and not any(spec.scheme == "sim" for spec in parsed):
        raise ValueError(f"{parsed[0].text}: Verilog is for simulated devices only")
    devices: list[Device] = []
    spares: list[Device] = []
    with ExitStack() as stack:
        for index, spec in enumerate(parsed):
            transports = _SCHEMES[spec.scheme](spec, config or DeviceConfig(), rtl)
            for transport in transports:
                stack.enter_context(closing(transport))
            (spares if spec.spare else devices).extend(_devices(transports, parsed, index))
        stack.pop_all()
    if len(devices) == 1 and not spares:
        return devices[0]
    return FailoverGroup(devices, spares, layers=is_by_layers(specs))


def open_transport(spec: str, config: DeviceConfig | None = None) -> Transport:
    """Open the transport to one device, specified as for :func:`open_device`. Close it.

    Raises :class:`ValueError` for an invalid specification, several devices or several channels.
    """
    parsed = parse_specs(spec)
    if len(parsed) != 1 or parsed[0].spare:
        raise ValueError(f"{spec}: give one device")
    transports = _SCHEMES[parsed[0].scheme](parsed[0], config or DeviceConfig(), None)
    if len(transports) != 1:
        for transport in transports:
            transport.close()
        raise ValueError(f"{spec}: has {len(transports)} channels; give a device with one")
    return transports[0]


def _devices(
    transports: Sequence[Transport], specs: Sequence[Spec], index: int,
) -> list[Device]:
    """Return the devices of a spec. Those of several specs share no name and no sequence number."""
    count = len(specs)
    name = f"{specs[index].text} ({index + 1} of {count})" if count > 1 else specs[index].text
    names = [name] if len(transports) == 1 else [
        f"{name} channel {channel}" for channel in range(len(transports))]
    return [Device(transport, name=each, sequences=SEQUENCES[index::count])
            for transport, each in zip(transports, names, strict=True)]


#: Options of simulated devices that are build parameters.
_SIZES = ("lanes", "columns", "max_k")


def simulate(spec: Spec, config: DeviceConfig, rtl: str | None = None) -> NativeTransport:
    """Return the transport to a simulated device, whose options override ``config``."""
    if spec.address is not None:
        raise ValueError(f"{spec.text}: a simulated device has no address; write sim")
    return simulated(_sizes(config, spec.values(**dict.fromkeys(_SIZES, int))), rtl)


def _sizes(config: DeviceConfig, options: dict[str, Any]) -> DeviceConfig:
    """Return ``config`` with the sizes among options, which are removed, and with a build id."""
    sizes = {name: options.pop(name, getattr(config, name)) for name in _SIZES}
    return DeviceConfig(**sizes, build_id=None)


def _open_sim(spec: Spec, config: DeviceConfig, rtl: str | None) -> list[Transport]:
    return [ThreadTransport(simulate(spec, config, rtl))]


def _open_axi_sim(spec: Spec, config: DeviceConfig, *_: Any) -> list[BoardTransport]:
    """Open a simulated memory-mapped core."""
    if spec.address is not None:
        raise ValueError(f"{spec.text}: a simulated core has no address; write axi-sim")
    options = spec.values(channels=int, **dict.fromkeys(_SIZES, int), memory=int, file=str,
                          latency=int, stalls=float, seed=int)
    device = _sizes(config, options)
    return open_simulated(AxiConfig(device, options.pop("channels", 1)), **options)


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


def _open_tcp(spec: Spec, *_: Any) -> list[Transport]:
    return [SocketTransport(*_host_and_port(spec), **spec.values(timeout=float, key=read_key))]


def _open_udp(spec: Spec, *_: Any) -> list[Transport]:
    """Open a board. Its responses come to the port of the board, unless ``bind`` is another."""
    host, port = _host_and_port(spec, BOARD_PORT)
    options = spec.values(bind=int, timeout=float, repeat=float, tries=int, window=int)
    silence = {"timeout": options.pop("timeout")} if "timeout" in options else {}
    if "repeat" in options:
        options["timeout"] = options.pop("repeat")
    link = BoardLink(host, port, options.pop("bind", port), **options)
    return [BoardTransport(SocBus(link), **silence)]


def _open_uartbone(spec: Spec, *_: Any) -> list[BoardTransport]:
    """Open a board with memory on a serial port."""
    options = spec.values(baud=int, timeout=float, repeat=float, tries=int)
    silence = {"timeout": options.pop("timeout")} if "timeout" in options else {}
    if "repeat" in options:
        options["timeout"] = options.pop("repeat")
    link = UartLink(str(spec.address), options.pop("baud", BAUD), **options)
    return [BoardTransport(SocBus(link), **silence)]


def _open_uio(spec: Spec, *_: Any) -> list[BoardTransport]:
    options = spec.values(buffer=str, interrupt=int, timeout=float)
    if "buffer" not in options:
        raise ValueError(f"{spec.text}: give buffer=NAME, a buffer of u-dma-buf")
    options["interrupt"] = bool(options.get("interrupt", 1))
    return open_uio(str(spec.address), **options)


def _address(text: str) -> int:
    """Return an address, decimal or with 0x."""
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"address must be a number such as 0x80000000, not {text!r}") from None


def _open_pcie(spec: Spec, *_: Any) -> list[BoardTransport]:
    return open_pcie(str(spec.address), **spec.values(
        buffer=str, memory=int, address=_address, bar=int, timeout=float))


def _open_pynq(spec: Spec, *_: Any) -> list[BoardTransport]:
    return open_pynq(str(spec.address), **spec.values(ip=str, memory=int, timeout=float))


def _open_dask(spec: Spec, config: DeviceConfig, _: str | None) -> list[Transport]:
    """Open a device of a cluster, whose scheduler uses TLS if the option ``tls`` is not 0."""
    host, port = _host_and_port(spec, CLUSTER_PORT)
    options = spec.values(**dict.fromkeys(_SIZES, int), timeout=float, wait=float, tls=int)
    scheme = "tls" if options.pop("tls", 0) else "tcp"
    cluster = _cluster(f"{scheme}://{host}:{port}", _sizes(config, options))
    return [ClusterTransport(cluster, **options)]


@cache
def _cluster(address: str, config: DeviceConfig) -> Cluster:
    """Return the cluster that all transports to it share, so that no two get the same device."""
    return Cluster(address, config)


def _open_serial(spec: Spec, *_: Any) -> list[Transport]:
    """Open a board on a serial port, in a thread because its methods wait for the line."""
    options = {"baud": BAUD, **spec.values(baud=int, timeout=float)}
    return [ThreadTransport(SerialTransport(str(spec.address), **options))]


_SCHEMES: dict[str, _Opener] = {
    "sim": _open_sim, "axi-sim": _open_axi_sim, "tcp": _open_tcp, "udp": _open_udp,
    "dask": _open_dask, "serial": _open_serial, "uartbone": _open_uartbone, "uio": _open_uio,
    "pcie": _open_pcie, "pynq": _open_pynq}
