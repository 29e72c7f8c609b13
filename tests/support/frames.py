"""Frames as bytes, for all tests: from docs/protocol.md, without the project's constants."""

import struct
import zlib

__all__ = ["build_frame", "build_header", "pad", "split_frame"]

MAGIC = 0x3354


def pad(data, align, fill=b"\0"):
    """Return ``data`` filled up to a multiple of ``align`` bytes with the pattern ``fill``."""
    room = -len(data) % align
    return data + (fill * room)[:room]


def build_header(opcode, sequence=1, arg0=0, arg1=0, length=0, *, spoil=0):
    """Return the 20 bytes of a header; its CRC is XORed with ``spoil``."""
    fields = struct.pack("<HBBIII", MAGIC, opcode, sequence, arg0, arg1, length)
    return fields + struct.pack("<I", zlib.crc32(fields) ^ spoil)


def build_frame(align, opcode, sequence=1, arg0=0, arg1=0, payload=b"", *, fill=b"\0",
                spoil_header=0, spoil_trailer=0):
    """Return a frame with its parts padded to ``align`` bytes: 64, or the lanes of a response."""
    header = build_header(opcode, sequence, arg0, arg1, len(payload), spoil=spoil_header)
    covered = pad(header, align, fill) + pad(payload, align, fill)
    return covered + pad(struct.pack("<I", zlib.crc32(covered) ^ spoil_trailer), align, fill)


def split_frame(pull, lanes):
    """Check the next response; return its opcode, sequence, arg0, arg1 and payload.

    ``pull`` returns the requested number of bytes.
    """
    head = pull(20 + -20 % lanes)
    *fields, length = struct.unpack_from("<BBIII", head, 2)
    assert head == pad(build_header(*fields, length), lanes)
    payload = pull(length + -length % lanes)[:length]
    trailer = pull(4 + -4 % lanes)
    assert head + pad(payload, lanes) + trailer == build_frame(lanes, *fields, payload)
    return *fields, payload
