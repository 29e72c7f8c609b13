"""The interface between the driver and whatever carries bytes to a device and back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tritstream.host.errors import TransportClosed, TransportError, TransportTimeout
from tritstream.hw.protocol import REQUEST_ALIGN

__all__ = ["FOLD_WORDS", "Stored", "Transport", "TransportClosed", "TransportError",
           "TransportTimeout"]

#: Words that folding must save by default, because a further GEMV frame costs 100 to 200 cycles
#: and as many bytes.
FOLD_WORDS = 256


@dataclass(frozen=True)
class Stored:
    """A payload that the board has in its memory.

    Members
    -------
    address : int
        Address of the first byte, a multiple of 64.
    length : int
        Bytes before padding. In memory, zeros follow up to a multiple of 64.
    crc : int
        CRC-32 of the payload with its padding.
    """

    address: int
    length:  int
    crc:     int

    @property
    def nbytes(self) -> int:
        """Bytes before padding, under the name that views use."""
        return self.length

    @property
    def size(self) -> int:
        """Bytes with padding."""
        return self.length + -self.length % REQUEST_ALIGN


class Transport(ABC):
    """Two byte streams, to a device and from it, and what the driver must know about them.

    The driver awaits only `send` and `recv`, one at a time, so it runs under any event loop, under
    a simulator, or without either. It calls `close` only when the driver itself is closed.

    The members are capabilities. A subclass overrides the ones whose defaults do not fit. They do
    not change while a transport is in use.

    Members
    -------
    flow_control : bool
        Whether the device can hold the driver back and no byte gets lost. If not (a serial line),
        the driver sends no frame for whose results the device would have to wait. After a failed
        attempt it sends nothing before the line was silent. That silence lasts longer than the
        device needs to drop a partial word (:func:`tritstream.hw.protocol.idle_bytes`).
    fold_words : int or None
        Words that folding a row block must save (:func:`.prepare`). None means never fold, for a
        transport on which every further frame takes long.
    about : mapping of str to str
        How the device was made, if known: for a simulation, its engine and RTL.
    """

    flow_control: bool              = True
    fold_words:   int | None        = FOLD_WORDS
    about:        Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Accept ``data`` for the device, which may get it later.

        The driver never changes what it has sent, so a transport may keep the buffer and need not
        copy it. The driver reads no response before its complete request is accepted, so a
        transport keeps receiving responses while it sends. Every call carries a multiple of 64
        bytes, which is a whole number of words for every lane count.

        Only a :class:`.StoringTransport` takes a :class:`Stored`. Other transports pass ``data``
        through ``_bytes_only``, which refuses it.

        Raises :class:`TransportClosed` when the device is gone, :class:`TransportError` for a
        :class:`Stored` if the device has no memory.
        """

    @abstractmethod
    async def recv(self, count: int) -> bytes:
        """Return exactly ``count`` bytes of responses.

        Raises :class:`TransportTimeout` when the device stays silent before ``count`` bytes have
        come; the next call returns the bytes that did come. Raises :class:`TransportClosed` when
        the device is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what carries the bytes. Nothing may be sent or received afterwards."""

    def ready(self) -> bytes:
        """Return response bytes that are here already, without waiting; by default none."""
        return b""

    def _bytes_only(self, data: bytes | memoryview | Stored) -> bytes | memoryview:
        """Return ``data``, for a transport to a device without memory."""
        if isinstance(data, Stored):
            raise TransportError(f"{type(self).__name__} leads to no memory that holds the "
                                 f"{data.length} stored bytes of this request: prepare the matrix "
                                 "for this device")
        return data
