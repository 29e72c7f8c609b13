"""Requests as bytes, for sessions that are built without a driver."""

from tritstream.host.protocol.frames import Stored, request

__all__ = ["request_bytes"]


def request_bytes(
    opcode: int, sequence: int, arg0: int = 0, arg1: int = 0,
    payload: bytes | memoryview | Stored = b"",
) -> bytes:
    """Return the bytes of a request, with its parameters as in :func:`.request`.

    Raises :class:`TypeError` if a board stores the payload, because the host then has no bytes.
    """
    if isinstance(payload, Stored):
        raise TypeError("a stored payload has no bytes")
    pieces = request(opcode, sequence, arg0, arg1, payload)
    return b"".join(piece for piece in pieces if not isinstance(piece, Stored))
