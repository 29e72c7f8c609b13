"""Command that serves a simulated device over TCP."""

import asyncio
import signal
import socket
from contextlib import closing
from typing import Annotated

import typer

from tritstream.host.open_device import parse_specs, simulate
from tritstream.host.servers.tcp_device import DeviceServer
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import console, reports_errors

__all__ = ["listen_address", "serve"]

_ADDRESS = "127.0.0.1:7354"


@reports_errors
def serve(
    device: Annotated[str, typer.Option(
        help="Simulated device to serve: sim, or sim:lanes=64,columns=4,max_k=4096.")] = "sim",
    listen: Annotated[str, typer.Option(
        metavar="HOST:PORT", help="TCP address to listen on; port 0 takes a free port.")] =
        _ADDRESS,
):
    """Serve a simulated device over TCP to other processes and machines, one at a time.

    Clients use it as `--device tcp://HOST:PORT`. There is no authentication and no encryption, so
    anyone who reaches the port can use the device. Listen on trusted networks only.
    """
    specs, (host, port) = parse_specs(device), listen_address(listen, _ADDRESS)
    if len(specs) != 1 or specs[0].scheme != "sim":
        raise ValueError(f"{device}: serve takes one simulated device; start one server for each")
    with closing(_listen(host, port)) as listener:
        console.print("building the simulated device (half a minute the first time)")
        with closing(DeviceServer(simulate(specs[0], DeviceConfig()), _log)) as server:
            asyncio.run(_until_stopped(server, listener, device))
    print("stopped")


def listen_address(listen: str, example: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; raise :class:`ValueError` with an example if malformed."""
    host, _, port = listen.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"{listen}: listen must be HOST:PORT, such as {example}")
    return host.strip("[]"), int(port)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise ValueError(f"cannot listen on {host} port {port} ({reason}); choose another with "
                         "--listen") from None
    listener.setblocking(False)
    return listener


async def _until_stopped(server: DeviceServer, listener: socket.socket, device: str) -> None:
    """Serve until SIGINT or SIGTERM."""
    task = asyncio.create_task(server.serve(listener))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    print(f"serving {device} on tcp://{host}:{port}", flush=True)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _log(line: str) -> None:
    console.print(line, markup=False)
