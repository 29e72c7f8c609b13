"""Command that shares a simulated device over TCP."""

import asyncio
import signal
import socket
from contextlib import closing
from typing import Annotated

import typer

from tritstream.host.device_spec import parse_specs
from tritstream.host.open_device import simulate
from tritstream.host.servers.tcp_device import DeviceServer
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import console, reports_errors
from tritstream.scripts.running.listening import as_text, listen_address, listen_on

__all__ = ["share_device"]

_ADDRESS = "127.0.0.1:7354"


@reports_errors
def share_device(
    device: Annotated[str, typer.Option(
        help="Simulated device to share: sim, or sim:lanes=64,columns=4,max_k=4096.")] = "sim",
    listen: Annotated[str, typer.Option(
        metavar="HOST:PORT", help="TCP address to listen on; port 0 takes a free port.")] =
        _ADDRESS,
):
    """Share a simulated device over TCP with other processes and machines, one at a time.

    Clients use it as `--device tcp://HOST:PORT`. There is no authentication and no encryption, so
    anyone who reaches the port can use the device. Listen on trusted networks only.
    """
    specs, (host, port) = parse_specs(device), listen_address(listen, _ADDRESS)
    if len(specs) != 1 or specs[0].scheme != "sim":
        raise ValueError(f"{device}: share-device takes one simulated device; start one server for "
                         "each")
    with closing(listen_on(host, port)) as listener:
        console.print("building the simulated device (half a minute the first time)")
        with closing(DeviceServer(simulate(specs[0], DeviceConfig()), _log)) as server:
            asyncio.run(_until_stopped(server, listener, device))
    print("stopped")


async def _until_stopped(server: DeviceServer, listener: socket.socket, device: str) -> None:
    """Serve until SIGINT or SIGTERM."""
    task = asyncio.create_task(server.serve(listener))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    print(f"sharing {device} on tcp://{as_text(listener)}", flush=True)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _log(line: str) -> None:
    console.print(line, markup=False)
