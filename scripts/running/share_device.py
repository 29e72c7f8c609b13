"""Command that shares a simulated device over TCP."""

import asyncio
import signal
import socket
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from tritstream.host.device_spec import parse_specs
from tritstream.host.open_device import simulate
from tritstream.host.servers.tcp_device import DeviceServer
from tritstream.host.transports.device_key import read_key
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import console, reports_errors
from tritstream.scripts.running.listening import as_text, is_loopback, listen_address, listen_on

__all__ = ["share_device"]

_ADDRESS = "127.0.0.1:7354"


@reports_errors
def share_device(
    device: Annotated[str, typer.Option(
        help="Simulated device to share: sim, or sim:lanes=64,columns=4,max_k=4096.")] = "sim",
    listen: Annotated[str, typer.Option(
        metavar="HOST:PORT", help="TCP address to listen on; port 0 takes a free port.")] =
        _ADDRESS,
    key_file: Annotated[Path | None, typer.Option(
        help="File with the key that clients must know, at least 16 bytes. Required unless only "
             "programs of this machine reach the address.")] = None,
):
    """Share a simulated device over TCP with other processes and machines, one at a time.

    Clients use it as `--device tcp://HOST:PORT,key=FILE`. The key proves who may use the device.
    Weights and activations are not encrypted; for that, listen on 127.0.0.1 and use a tunnel such
    as ssh -L.
    """
    specs, (host, port) = parse_specs(device), listen_address(listen, _ADDRESS)
    if len(specs) != 1 or specs[0].scheme != "sim":
        raise ValueError(f"{device}: share-device takes one simulated device; start one server for "
                         "each")
    key = read_key(key_file) if key_file else None
    if key is None and not is_loopback(host):
        raise ValueError(f"{listen}: other machines would reach this device without a key; give "
                         "--key-file FILE, or listen on 127.0.0.1")
    with closing(listen_on(host, port)) as listener:
        console.print("building the simulated device (half a minute the first time)")
        with closing(DeviceServer(simulate(specs[0], DeviceConfig()), _log, key)) as server:
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
