"""A simulated device on a TCP port."""

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tritstream.host.transports.native import NativeTransport
from tritstream.hw.protocol import REQUEST_ALIGN

__all__ = ["DeviceServer"]

#: Request bytes taken at once; the client waits while they are worked on.
_CHUNK = 1 << 18

#: Seconds in which the client before may leave, and in which one must take some of its answers.
_LEAVE, _TAKE = 1.0, 60.0

#: A client whose machine is gone is noticed after some 25 seconds.
_ALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


class DeviceServer:
    """A simulated device, for one client after another: requests come in, answers go out.

    The device is reset for each client. One who comes while another is there is sent away. There is
    no authentication: whoever can connect can use the device.

    Parameters
    ----------
    device : NativeTransport
        Closed with the server.
    log : callable
        Told in a line who comes and goes.
    """

    def __init__(self, device: NativeTransport, log: Callable[[str], None]):
        self._device, self._log = device, log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")

    async def serve(self, listener: socket.socket) -> None:
        """Take clients from a listening socket, which does not block, until cancelled."""
        talk = None
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
        """Wait for what the device is at, and close it."""
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

    async def _run(self, work, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _name(address: tuple) -> str:
    return f"{address[0]} port {address[1]}"
