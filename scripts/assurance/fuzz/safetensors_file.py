"""Changes of safetensors files that keep lengths and checksums valid."""

import json
import zlib
from random import Random

from tritstream.scripts.assurance.fuzz.mutation import changed_bytes, changed_json

__all__ = ["changed_safetensors"]

_SEAL = "tritstream_header_crc32"
_RECORDS = "tritstream"


def changed_safetensors(data: bytes, rng: Random) -> bytes:
    """Return a file with a changed header, changed JSON in its metadata, or changed data.

    Most of the time all CRC-32 are made valid, so that the code that runs after the CRC check is
    reached.
    """
    if rng.random() < 0.15:
        return changed_bytes(data, rng)
    size = int.from_bytes(data[:8], "little")
    text, body = data[8:8 + size], data[8 + size:]
    try:
        header = json.loads(text)
        if rng.random() < 0.3:
            body = changed_bytes(body, rng) if rng.random() < 0.4 else _changed_values(body, rng)
        if rng.random() < 0.75:
            _seal_tensors(header, body)
        if rng.random() < 0.3:
            _change_metadata(header["__metadata__"], rng)
        times = rng.choice((0, 1, 1, 2))
        text = changed_json(header, rng, times)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
        return changed_bytes(data, rng)
    if rng.random() < 0.9:
        text = _sealed(text)
    return len(text).to_bytes(8, "little") + text + body


def _changed_values(body: bytes, rng: Random) -> bytes:
    """Return ``body`` with some other bytes, and the same length."""
    found = bytearray(body)
    for _ in range(rng.choice((1, 2, 16))):
        if found:
            at, size = rng.randrange(len(found)), rng.choice((1, 1, 4, 16))
            piece = rng.choice((rng.randbytes(size), b"\xff" * size, bytes(size), b"\0\0\x80\x7f"))
            found[at:at + len(piece)] = piece[:len(found) - at]
    return bytes(found)


def _change_metadata(metadata: dict, rng: Random) -> None:
    """Change the JSON in one value of the metadata."""
    name = rng.choice(sorted(metadata))
    changed = changed_json(json.loads(metadata[name]), rng)
    metadata[name] = changed.decode("utf-8", "surrogatepass")


def _seal_tensors(header: dict, body: bytes) -> None:
    metadata = header.get("__metadata__", {})
    if _RECORDS not in metadata:
        return
    records = json.loads(metadata[_RECORDS])
    for name, record in records.items():
        start, end = header[name]["data_offsets"]
        record["crc32"] = f"{zlib.crc32(body[start:end]):08x}"
    metadata[_RECORDS] = json.dumps(records, separators=(",", ":"))


def _sealed(text: bytes) -> bytes:
    """Return a header with a valid CRC-32 of itself, if it has that field."""
    field = f'"{_SEAL}":"'.encode()
    at = text.find(field) + len(field)
    if at < len(field):
        return text
    zeros = text[:at] + b"0" * 8 + text[at + 8:]
    return text[:at] + f"{zlib.crc32(zeros):08x}".encode() + text[at + 8:]
