"""What clients send to ``tritstream share-device``."""

import asyncio
import socket
from pathlib import Path
from random import Random

from tritstream.host.servers.tcp_device import DeviceServer
from tritstream.host.transports.native import NativeTransport
from tritstream.hw.protocol import REQUEST_ALIGN
from tritstream.scripts.assurance.fuzz.mutation import changed_bytes
from tritstream.scripts.assurance.fuzz.target import Broken, Target

__all__ = ["TARGET"]


class _Device(NativeTransport):
    """Device that keeps all requests and returns them as its responses."""

    def __init__(self) -> None:
        self.taken = b""

    def reset(self) -> None:
        self.taken = b""

    def exchange(self, data: bytes) -> bytes:
        if not data or len(data) % REQUEST_ALIGN:
            raise Broken(f"{len(data)} bytes for a device")
        self.taken += data
        return data

    def close(self) -> None:
        pass


def _run(data: bytes, _: Path) -> None:
    asyncio.run(_talk(data))


async def _talk(data: bytes) -> None:
    """Serve a client that sends the input in segments and leaves, then another client."""
    device = _Device()
    log: list[str] = []
    server = DeviceServer(device, log.append)
    try:
        await _client(server, data, Random(len(data)))
        whole = len(data) - len(data) % REQUEST_ALIGN
        if device.taken != data[:whole]:
            raise Broken("the device received other bytes than the client sent")
        if await _client(server, bytes(REQUEST_ALIGN), Random(0)) != bytes(REQUEST_ALIGN):
            raise Broken("the next client was not served")
    finally:
        server.close()
    if any(not line.isprintable() for line in log):
        raise Broken(f"a log of {log!r}")


async def _client(server: DeviceServer, data: bytes, rng: Random) -> bytes:
    """Return the response to a client that sends ``data`` and closes its side."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for one in (ours, theirs):
        one.setblocking(False)
    serving = asyncio.create_task(server._receive(theirs, "a client"))
    reader, writer = await asyncio.open_connection(sock=ours)
    place = 0
    while place < len(data):
        size = rng.choice((1, 63, 64, 65, 4096))
        writer.write(data[place:place + size])
        place += size
        if rng.random() < 0.3:
            await asyncio.sleep(0)
    writer.write_eof()
    try:
        await asyncio.wait_for(serving, 20)
        return await reader.read()
    except ConnectionResetError:
        return b""              # the server closed the connection first
    finally:
        writer.transport.abort()


def _seeds() -> list[bytes]:
    return [bytes(64), Random(0).randbytes(1000), b"", bytes(range(256)) * 40]


TARGET = Target("bytes of clients of `tritstream share-device`", _seeds, _run, changed_bytes)
