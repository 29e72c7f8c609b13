"""The seam between the driver and whatever carries its bytes."""

from typing import Protocol

from tritstream.host.errors import TransportClosed, TransportError, TransportTimeout

__all__ = ["Transport", "TransportError", "TransportTimeout", "TransportClosed"]


class Transport(Protocol):
    """Two byte streams to and from a device.

    The driver awaits nothing but `send` and `recv`, one at a time, so it runs under any event
    loop, under a simulator, or under none. It calls `close` only when it is closed itself.

    A transport over which the device cannot hold the driver back, and on which bytes may get lost
    (a serial line), has an attribute ``flow_control = False``. It then gets no frame for whose
    results the device would have to wait, and after a failed try nothing before it was silent;
    that silence lasts longer than the device needs to drop a partial word
    (:func:`tritstream.hw.protocol.idle_bytes`).

    One over which a frame takes long whatever is in it has an attribute ``fold_words``, the words
    that folding a row block must save, or None never to fold (:func:`.prepare`).

    One that knows how its device was made has that in an attribute ``about``, texts by name.

    One to a device with memory of its own has an attribute ``store``, a
    :class:`.Store`, and takes what is stored in the place of bytes.
    """

    async def send(self, data: bytes | memoryview) -> None:
        """Accept ``data`` for the device, which may get it later.

        The driver never changes what it has sent, so a transport may keep the buffer and need not
        copy it. It reads no answer before its whole request is accepted, so a transport keeps
        taking answers while it sends. Every call carries a multiple of 64 bytes, which is a whole
        number of words whatever the device's lane count.

        Raises :class:`TransportClosed` when the device is gone.
        """
        ...

    async def recv(self, count: int) -> bytes:
        """Return exactly ``count`` bytes of answers.

        Raises :class:`TransportTimeout` when the device stays silent before ``count`` bytes have
        come; those that did come are returned by the next call. Raises :class:`TransportClosed`
        when the device is gone.
        """
        ...

    def close(self) -> None:
        """Give back what carries the bytes; nothing may be sent or received after it."""
        ...
