"""Replay of the sessions of the vectors on a device, over any transport."""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict

from tritstream.host.device import Device
from tritstream.host.errors import HostError
from tritstream.host.protocol.frames import Header, padded, rest_bytes
from tritstream.host.protocol.records import Info
from tritstream.host.transports.base import Transport
from tritstream.hw.protocol import HEADER_BYTES, Opcode
from tritstream.scripts.assurance.vectors.vector_set import sessions

__all__ = ["mismatch", "replay"]


async def replay(transport: Transport, depths: Sequence[int], advance: Callable) -> dict:
    """Play all sessions that fit the device; return their names with the first difference.

    The first session that fails is the last one, because the state of the device is unknown then.
    ``advance(1, name)`` is called after each session.

    Raises :class:`.HostError` if the device cannot be identified.
    """
    info = await Device(transport).identify()
    report = {"device": asdict(info), "sessions": {}, "left_out": {}}
    for name, make in sessions(info.lanes, depths).items():
        session = make()
        if lacks := _lacks(info, session.needs):
            report["left_out"][name] = lacks
            continue
        report["sessions"][name] = fault = await _play(transport, session)
        advance(1, name)
        if fault:
            break
    return report


def _lacks(info: Info, needs: dict) -> str:
    """Return the sizes that are too small for a session, or nothing."""
    return ", ".join(f"{name} {getattr(info, name)} of {least}"
                     for name, least in needs.items() if getattr(info, name) < least)


async def _play(transport: Transport, session) -> str | None:
    """Play a session; return the first difference, or None."""
    try:
        await transport.send(bytes(session.requests))
        got = await _answers(transport, session)
    except HostError as error:
        return str(error)
    return mismatch(session.json(), bytes(session.answers), got)


async def _answers(transport: Transport, session) -> bytes:
    """Receive all expected responses; optional ones may be missing."""
    got, held = b"", b""
    for exchange in session.exchanges:
        for expected in exchange["answers"]:
            frame = held or await _frame(transport, session.lanes)
            held = frame if expected.get("optional") and frame[2] != Opcode.RESULT else b""
            got += frame if not held else b""
    return got


async def _frame(transport: Transport, lanes: int) -> bytes:
    head = await transport.recv(padded(HEADER_BYTES, lanes))
    header = Header.parse(head)
    if header is None:
        raise HostError(f"{head.hex()} came, which is no header")
    rest = rest_bytes(header, lanes) - (len(head) - HEADER_BYTES)
    return head + await transport.recv(rest)


def mismatch(session: dict, expected: bytes, got: bytes) -> str | None:
    """Return the first difference from the expected responses as one line, or None.

    ``session`` is the JSON of a session. docs/conformance.md describes these steps.
    """
    place = 0
    for exchange in session["exchanges"]:
        for answer in exchange["answers"]:
            start, size = answer["bytes"]
            frame = got[place:place + size]
            if answer.get("optional") and frame[2:3] != bytes([Opcode.RESULT]):
                continue
            fault = _fault(expected[start:start + size], frame, start, answer.get("device", []))
            if fault:
                return f"{exchange['about']}: {answer['opcode']}: {fault}"
            place += size
    return f"{len(got) - place} bytes too many" if place < len(got) else None


def _fault(expected: bytes, got: bytes, start: int, fields: list) -> str:
    if len(got) < len(expected):
        return f"{len(got)} of {len(expected)} bytes"
    frame = bytearray(got)
    for name, place, _ in fields:
        if name == "trailer":
            right = zlib.crc32(frame[:place - start])
            if struct.unpack_from("<I", frame, place - start)[0] != right:
                return "its trailer is wrong"
    for _, place, size in fields:
        at = place - start
        frame[at:at + size] = expected[at:at + size]
    for at, (found, wanted) in enumerate(zip(frame, expected, strict=True)):
        if found != wanted:
            return f"byte {at} is {found:02x}, not {wanted:02x}"
    return ""
