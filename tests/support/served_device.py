"""Devices and other servers at a TCP port of this process, for tests of transports."""

import asyncio
import socket
from contextlib import asynccontextmanager

from tritstream.host.device_spec import parse_specs
from tritstream.host.open_device import simulate
from tritstream.host.protocol.frames import request
from tritstream.host.servers.tcp_device import DeviceServer
from tritstream.host.transports.tcp import SocketTransport
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import Opcode

__all__ = ["IDENTIFY", "listening", "run_served", "served"]

IDENTIFY = b"".join(request(Opcode.IDENTIFY, 7))


@asynccontextmanager
async def served(log=None, lanes=4, key=None):
    """Serve a simulated device in this event loop; give its spec."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    native = simulate(parse_specs(f"sim:lanes={lanes}")[0], DeviceConfig())
    server = DeviceServer(native, [].append if log is None else log.append, key)
    task = asyncio.create_task(server.serve(listener))
    try:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        task.cancel()
        await asyncio.wait([task])
        server.close()
        listener.close()


@asynccontextmanager
async def listening(answer, timeout=1, key=None):
    """Transport to a server that awaits ``answer(reader, writer)`` and closes the connection."""
    async def serve(reader, writer):
        try:
            await answer(reader, writer)
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        transport = SocketTransport("127.0.0.1", server.sockets[0].getsockname()[1], timeout,
                                    key)
        try:
            yield transport
        finally:
            transport.close()


def run_served(work, *arguments, **options):
    """Return the result of ``work(spec)`` while a device is served."""
    async def within():
        async with served(*arguments, **options) as spec, asyncio.timeout(300):
            return await work(spec)
    return asyncio.run(within())
