"""A device that is served over TCP as a transport."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager

from tritstream.host.errors import TransportClosed, TransportTimeout

__all__ = ["TIMEOUT", "SocketTransport"]

#: Seconds of silence by default: those who share a machine with a simulation may be slow.
TIMEOUT = 20.0

#: Answers that wait to be taken; all that a frame brings, for it is sent whole before.
_WAITING = 1 << 30


class SocketTransport:
    """Transport over a TCP connection, made when the first request is sent.

    Parameters
    ----------
    host : str
    port : int
    timeout : float
        Seconds after which a connection attempt is given up, and a silent device tried again.
    """

    def __init__(self, host: str, port: int, timeout: float = TIMEOUT):
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 s, not {timeout!r}")
        self._host, self._port, self._timeout = host, port, timeout
        self._streams: tuple[StreamReader, StreamWriter] | None = None

    async def send(self, data: bytes | memoryview) -> None:
        """Give ``data`` to the connection: :meth:`.Transport.send`."""
        _, writer = self._streams or await self._connect()
        writer.write(data)

    async def recv(self, count: int) -> bytes:
        """Wait for ``count`` bytes: :meth:`tritstream.host.transports.base.Transport.recv`."""
        reader, writer = self._streams or await self._connect()
        with self._errors():
            while True:
                left = writer.transport.get_write_buffer_size()
                try:
                    async with asyncio.timeout(self._timeout):
                        return await reader.readexactly(count)
                except TimeoutError:
                    # Silence begins when no request bytes leave any more.
                    if writer.transport.get_write_buffer_size() == left:
                        raise TransportTimeout(f"silent for {self._timeout:g} s") from None

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        if self._streams:
            self._streams[1].transport.abort()

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        try:
            async with asyncio.timeout(self._timeout):
                self._streams = await asyncio.open_connection(
                    self._host, self._port, limit=_WAITING)
        except OSError as error:
            reasons = {ConnectionRefusedError: "connection refused",
                       TimeoutError: f"no answer within {self._timeout:g} s"}
            raise TransportClosed(
                f"cannot connect to {self._host} port {self._port}: "
                f"{reasons.get(type(error), error)}; is `tritstream serve` running "
                "there?") from None
        return self._streams

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError):
            raise TransportClosed("the server closed the connection: it ended, or has another "
                                  "client; it takes one at a time") from None
