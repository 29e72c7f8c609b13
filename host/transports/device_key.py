"""Proof that both ends of a connection know the same key, without sending the key.

The server sends :data:`GREETING` and a random challenge. The client returns a challenge of its own
and the HMAC-SHA256 of both challenges under the key; the server returns another HMAC of both. The
bytes after that are neither encrypted nor signed.
"""

import hmac
import secrets
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from pathlib import Path

__all__ = ["GREETING", "LEAST_BYTES", "demand_key", "prove_key", "read_key"]

#: First bytes from a server that needs a key. No response of a device starts with them.
GREETING = b"tritstream-key-1"

#: Least length of a key.
LEAST_BYTES = 16

#: Bytes of a challenge, and of an HMAC.
_SIZE = 32


def read_key(path: str | Path) -> bytes:
    """Return the key in a file, without white space around it.

    Raises :class:`ValueError` if the file cannot be read or the key is too short.
    """
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise ValueError(f"{path}: cannot read the key ({error.strerror})") from None
    if len(key) < LEAST_BYTES:
        raise ValueError(f"{path}: a key has at least {LEAST_BYTES} bytes, not {len(key)}; make "
                         "one with: python -c 'import secrets; print(secrets.token_hex(32))'")
    return key


async def demand_key(reader: StreamReader, writer: StreamWriter, key: bytes) -> bool:
    """Server: return whether the client knows the key."""
    mine = secrets.token_bytes(_SIZE)
    writer.write(GREETING + mine)
    try:
        proof = await reader.readexactly(2 * _SIZE)
    except IncompleteReadError:
        return False
    theirs = proof[:_SIZE]
    if not hmac.compare_digest(proof[_SIZE:], _sign(key, b"client", mine, theirs)):
        return False
    writer.write(_sign(key, b"server", mine, theirs))
    return True


async def prove_key(reader: StreamReader, writer: StreamWriter, key: bytes) -> None:
    """Client: prove that the key is known, and let the server prove the same.

    Raises :class:`ValueError` if one of the ends does not know the key of the other.
    """
    if await reader.readexactly(len(GREETING)) != GREETING:
        raise ValueError("the server asks for no key")
    theirs, mine = await reader.readexactly(_SIZE), secrets.token_bytes(_SIZE)
    writer.write(mine + _sign(key, b"client", theirs, mine))
    try:
        proof = await reader.readexactly(_SIZE)
    except (IncompleteReadError, ConnectionError):
        raise ValueError("the server has another key") from None
    if not hmac.compare_digest(proof, _sign(key, b"server", theirs, mine)):
        raise ValueError("the server does not know the key")


def _sign(key: bytes, role: bytes, server: bytes, client: bytes) -> bytes:
    return hmac.digest(key, role + server + client, "sha256")
