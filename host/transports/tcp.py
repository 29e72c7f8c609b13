"""Transport to a device that is served over TCP."""

import asyncio
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager

from tritstream.host.errors import TransportClosed, TransportTimeout
from tritstream.host.transports.base import Stored, Transport
from tritstream.host.transports.device_key import GREETING, prove_key

__all__ = ["TIMEOUT", "SocketTransport"]

#: Default seconds of silence. It is long because a served simulation may be slow.
TIMEOUT = 20.0

#: Response bytes read at a time.
_CHUNK = 1 << 18

#: Response bytes buffered at most. All responses to a frame fit: they may come before it is sent.
_WAITING = 1 << 30


class SocketTransport(Transport):
    """Transport over a TCP connection, which opens when the first request is sent.

    Parameters
    ----------
    host : str
        Name or address of the server.
    port : int
        TCP port of the server.
    timeout : float
        Seconds after which a connection attempt fails, and after which a silent device is retried.
    key : bytes, optional
        Key that the server asks for.
    """

    def __init__(self, host: str, port: int, timeout: float = TIMEOUT, key: bytes | None = None):
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 s, not {timeout!r}")
        self._host, self._port, self._timeout, self._key = host, port, timeout, key
        self._streams: tuple[StreamReader, StreamWriter] | None = None
        self._answers = bytearray()

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Give ``data`` to the connection: :meth:`.Transport.send`."""
        request = self._bytes_only(data)
        _, writer = self._streams or await self._connect()
        with self._errors():
            if writer.is_closing():
                raise EOFError
            writer.write(request)

    async def recv(self, count: int) -> bytes:
        """Wait for ``count`` bytes: :meth:`tritstream.host.transports.base.Transport.recv`."""
        reader, writer = self._streams or await self._connect()
        with self._errors():
            while len(self._answers) < count:
                left = writer.transport.get_write_buffer_size()
                try:
                    async with asyncio.timeout(self._timeout):
                        self._answers += await _some(reader)
                        self._check_greeting()
                except TimeoutError:
                    # Silence starts when no request bytes leave any more.
                    if writer.transport.get_write_buffer_size() == left:
                        raise TransportTimeout(f"silent for {self._timeout:g} s") from None
        data = bytes(self._answers[:count])
        del self._answers[:count]
        return data

    def ready(self) -> bytes:
        """Return response bytes that came with others: :meth:`.Transport.ready`."""
        data = bytes(self._answers)
        self._answers.clear()
        return data

    def close(self) -> None:
        """Close the connection at once, even during a transfer."""
        if self._streams:
            self._streams[1].transport.abort()

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        try:
            async with asyncio.timeout(self._timeout):
                streams = await asyncio.open_connection(self._host, self._port, limit=_WAITING)
        except OSError as error:
            reasons = {ConnectionRefusedError: "connection refused",
                       TimeoutError: f"no answer within {self._timeout:g} s"}
            raise TransportClosed(
                f"cannot connect to {self._host} port {self._port}: "
                f"{reasons.get(type(error), error)}; is `tritstream share-device` running "
                "there?") from None
        if self._key:
            await self._prove(streams, self._key)
        self._streams = streams
        return streams

    async def _prove(self, streams: tuple[StreamReader, StreamWriter], key: bytes) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                return await prove_key(*streams, key)
        except TimeoutError:
            reason = "the server asks for no key"
        except (ValueError, OSError, IncompleteReadError) as error:
            reason = str(error)
        streams[1].transport.abort()
        raise TransportClosed(f"{self._host} port {self._port}: {reason}; give the key with which "
                              "the server was started")

    def _check_greeting(self) -> None:
        if self._answers.startswith(GREETING) and not self._key:
            raise TransportClosed(f"{self._host} port {self._port}: the server needs a key; write "
                                  f"tcp://{self._host}:{self._port},key=FILE")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError):
            raise TransportClosed("the server closed the connection: it ended, or has another "
                                  "client; it takes one at a time") from None


async def _some(reader: StreamReader) -> bytes:
    """Return the bytes that have come, at least one; raises :class:`EOFError` at the end."""
    data = await reader.read(_CHUNK)
    if not data:
        raise EOFError
    return data
