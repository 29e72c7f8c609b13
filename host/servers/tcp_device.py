"""Server of a simulated device on a TCP port."""

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tritstream.host.transports.native import NativeTransport
from tritstream.hw.protocol import REQUEST_ALIGN

__all__ = ["DeviceServer"]

#: Request bytes read at a time. The client waits while the device works on them.
_CHUNK = 1 << 18

#: Seconds in which the previous client may leave, and in which a client must read responses.
_LEAVE, _TAKE = 1.0, 60.0

#: Keep-alive, so that a client whose machine is gone is noticed after about 25 seconds.
_ALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}

_T = TypeVar("_T")


class DeviceServer:
    """Serve a simulated device to one client at a time.

    The device is reset for each client. A client that connects while another is connected is
    rejected. There is no authentication: every machine that can connect can use the device.

    Parameters
    ----------
    device : NativeTransport
        Simulated device, closed with the server.
    log : callable
        Called with a line when a client connects or leaves.
    """

    def __init__(self, device: NativeTransport, log: Callable[[str], None]):
        self._device, self._log = device, log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")

    async def serve(self, listener: socket.socket) -> None:
        """Accept clients at a listening, non-blocking socket until cancelled."""
        talk: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            while True:
                client, address = await asyncio.get_running_loop().sock_accept(listener)
                if talk:
                    await asyncio.wait([talk], timeout=_LEAVE)
                if talk and not talk.done():
                    self._log(f"{_name(address)} sent away: another client is there")
                    client.close()
                else:
                    talk = group.create_task(self._receive(client, _name(address)))

    def close(self) -> None:
        """Wait until the device is idle, and close it."""
        self._thread.shutdown()
        self._device.close()

    async def _receive(self, client: socket.socket, name: str) -> None:
        self._log(f"{name} is here")
        try:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _ALIVE.items():
                client.setsockopt(socket.IPPROTO_TCP, option, value)
            reader, writer = await asyncio.open_connection(sock=client)
            try:
                await self._talk(reader, writer)
            finally:
                writer.transport.abort()
            self._log(f"{name} is gone")
        except OSError as error:
            self._log(f"{name} is lost ({error.strerror or 'it takes no answers'})")

    async def _talk(self, reader: StreamReader, writer: StreamWriter) -> None:
        await self._run(self._device.reset)
        held = b""
        while data := await reader.read(_CHUNK):
            held += data
            whole = len(held) - len(held) % REQUEST_ALIGN
            if whole:
                writer.write(await self._run(self._device.exchange, held[:whole]))
                held = held[whole:]
            async with asyncio.timeout(_TAKE):
                await writer.drain()

    async def _run(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _name(address: tuple) -> str:
    return f"{address[0]} port {address[1]}"
