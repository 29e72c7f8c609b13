"""Server of a simulated device on a TCP port."""

import asyncio
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tritstream.host.transports.device_key import demand_key
from tritstream.host.transports.native import NativeTransport
from tritstream.hw.protocol import REQUEST_ALIGN

__all__ = ["DeviceServer", "Use"]

#: Request bytes read at a time. The client waits while the device works on them.
_CHUNK = 1 << 18

#: Seconds in which the previous client may leave, in which a client must prove that it knows the
#: key, and in which it must read responses.
_LEAVE, _PROVE, _TAKE = 1.0, 10.0, 60.0

#: Keep-alive, so that a client whose machine is gone is noticed after about 25 seconds.
_ALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}

_T = TypeVar("_T")


@dataclass
class Use:
    """Use of a shared device.

    Members
    -------
    client : str or None
        Address of the client that is connected.
    clients : int
        Clients so far.
    request_bytes, response_bytes : int
        Bytes from and to all clients.
    busy_s : float
        Seconds in which the device worked.
    """

    client:         str | None = None
    clients:        int        = 0
    request_bytes:  int        = 0
    response_bytes: int        = 0
    busy_s:         float      = 0.0


class DeviceServer:
    """Serve a simulated device to one client at a time.

    The device is reset for each client. A client that connects while another is connected is
    rejected. Without a key, every machine that can connect can use the device.

    Parameters
    ----------
    device : NativeTransport
        Simulated device, closed with the server.
    log : callable
        Called with a line when a client connects or leaves.
    key : bytes, optional
        Key that clients must know: :mod:`tritstream.host.transports.device_key`.

    Members
    -------
    use : Use
        Use of the device so far.
    """

    def __init__(self, device: NativeTransport, log: Callable[[str], None],
                 key: bytes | None = None):
        self._device, self._log, self._key = device, log, key
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._turn = asyncio.Lock()
        self.use = Use()

    async def serve(self, listener: socket.socket) -> None:
        """Accept clients at a listening, non-blocking socket until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                client, address = await asyncio.get_running_loop().sock_accept(listener)
                group.create_task(self._receive(client, _name(address)))

    def close(self) -> None:
        """Wait until the device is idle, and close it."""
        self._thread.shutdown()
        self._device.close()

    async def _receive(self, client: socket.socket, name: str) -> None:
        try:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _ALIVE.items():
                client.setsockopt(socket.IPPROTO_TCP, option, value)
            reader, writer = await asyncio.open_connection(sock=client)
            try:
                if await self._admit(reader, writer, name):
                    await self._take_turn(reader, writer, name)
            finally:
                writer.transport.abort()
        except OSError as error:
            self._log(f"{name} is lost ({error.strerror or 'it takes no answers'})")

    async def _admit(self, reader: StreamReader, writer: StreamWriter, name: str) -> bool:
        """Return whether a client knows the key, if there is one."""
        if not self._key:
            return True
        try:
            async with asyncio.timeout(_PROVE):
                known = await demand_key(reader, writer, self._key)
        except TimeoutError:
            known = False
        if not known:
            self._log(f"{name} sent away: it does not know the key")
        return known

    async def _take_turn(self, reader: StreamReader, writer: StreamWriter, name: str) -> None:
        """Let a client use the device, if the client before it leaves in time."""
        try:
            async with asyncio.timeout(_LEAVE):
                await self._turn.acquire()
        except TimeoutError:
            self._log(f"{name} sent away: another client is there")
            return
        self._log(f"{name} is here")
        self.use.client = name
        self.use.clients += 1
        try:
            await self._talk(reader, writer)
            self._log(f"{name} is gone")
        finally:
            self.use.client = None
            self._turn.release()

    async def _talk(self, reader: StreamReader, writer: StreamWriter) -> None:
        await self._run(self._device.reset)
        held = b""
        while data := await reader.read(_CHUNK):
            held += data
            self.use.request_bytes += len(data)
            whole = len(held) - len(held) % REQUEST_ALIGN
            if whole:
                began = time.monotonic()
                answers = await self._run(self._device.exchange, held[:whole])
                self.use.busy_s += time.monotonic() - began
                self.use.response_bytes += len(answers)
                writer.write(answers)
                held = held[whole:]
            async with asyncio.timeout(_TAKE):
                await writer.drain()

    async def _run(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _name(address: tuple) -> str:
    return f"{address[0]} port {address[1]}"
