"""Comparison of what a device answered with the vectors, as docs/conformance.md tells it."""

import struct
import zlib

__all__ = ["mismatch"]

_RESULT = 0x82


def mismatch(session, due, got):
    """The first difference of answers from those that are due: a line, or None.

    ``session`` is the JSON of a session, ``due`` and ``got`` are bytes.
    """
    place = 0
    for exchange in session["exchanges"]:
        for answer in exchange["answers"]:
            start, size = answer["bytes"]
            frame = got[place:place + size]
            if answer.get("optional") and frame[2:3] != bytes([_RESULT]):
                continue
            fault = _fault(due[start:start + size], frame, start, answer.get("device", []))
            if fault:
                return f"{exchange['about']}: {answer['opcode']}: {fault}"
            place += size
    return f"{len(got) - place} bytes too many" if place < len(got) else None


def _fault(due, frame, start, fields):
    if len(frame) < len(due):
        return f"{len(frame)} of {len(due)} bytes"
    frame = bytearray(frame)
    for name, place, _ in fields:
        if name == "trailer":
            right = zlib.crc32(frame[:place - start])
            if struct.unpack_from("<I", frame, place - start)[0] != right:
                return "trailer"
    for _, place, size in fields:
        frame[place - start:place - start + size] = due[place - start:place - start + size]
    places = [place for place, (a, b) in enumerate(zip(frame, due, strict=True)) if a != b]
    return f"byte {places[0]} is {frame[places[0]]:02x}, not {due[places[0]]:02x}" if places else ""
