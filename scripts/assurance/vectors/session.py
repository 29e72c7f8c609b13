"""Sessions: request bytes, and the answers that are due, with what only a device can know."""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from tritstream.golden.fixed_point import ROWS, mantissas
from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import word_stream
from tritstream.host.protocol.frames import Header, padded, request
from tritstream.host.protocol.operands import activation_rows, mantissa_bytes
from tritstream.hw.protocol import (
    COUNTER_FIELDS,
    DONE_FIELDS,
    HEADER_BYTES,
    INFO_FIELDS,
    REQUEST_ALIGN,
    SUM_BYTES,
    TRAILER_BYTES,
    VERSION,
    ErrorCode,
    Opcode,
)
from tritstream.scripts.assurance.vectors.matrices import Case

__all__ = ["DEVICE_FIELDS", "Due", "Product", "Session", "error"]

_U64S = Struct("<4Q")
#: What depends on the device or on time, by opcode: zero in the files.
DEVICE_FIELDS = {
    Opcode.INFO:     ("columns", "max_k", "clock_hz", "build_id"),
    Opcode.DONE:     ("cycles", "input_stalls", "output_stalls"),
    Opcode.COUNTERS: ("cycles",),
}
_LAYOUTS = {Opcode.INFO: (4, INFO_FIELDS), Opcode.DONE: (8, DONE_FIELDS),
            Opcode.COUNTERS: (8, COUNTER_FIELDS)}


@dataclass(frozen=True)
class Due:
    """An answer without sequence and checksums.

    ``optional`` are RESULTs of a GEMV that is refused later: a device need not have sent them.
    """

    opcode:   int
    arg0:     int = 0
    arg1:     int = 0
    payload:  bytes = b""
    optional: bool = False


ACK = (Due(Opcode.ACK),)


def error(code: ErrorCode, opcode: int) -> tuple[Due, ...]:
    """The answer that refuses a frame."""
    return (Due(Opcode.ERROR, code, opcode),)


class Session:
    """Requests in order, from a RESET on, and the answers to each.

    Parameters
    ----------
    lanes : int
        Bytes of a word.
    about : str
        What the session tells.
    columns, max_k : int
        What a device needs at least.
    """

    def __init__(self, lanes: int, about: str, columns: int = 1, max_k: int = 48):
        self.lanes, self.about = lanes, about
        self.needs = {"columns": columns, "max_k": max_k}
        self.requests, self.answers = bytearray(), bytearray()
        self.exchanges: list[dict] = []
        self._sequence = 0
        self._good = self._bad = self._last = 0
        self.ask("what comes before a session counts no more", Opcode.RESET)

    def ask(
        self, about: str, opcode: int, arg0: int = 0, arg1: int = 0, payload: bytes = b"",
        due: Sequence[Due] = ACK, *, spoil: int = 0, padding: int = 0,
    ) -> None:
        """A request and its answers.

        ``spoil`` is what the trailer differs by, ``padding`` the byte that all parts end in.
        """
        data = self.frame(opcode, arg0, arg1, payload, spoil=spoil, padding=padding)
        self.raw(about, data, due, self._sequence)
        self._sequence = (self._sequence + 1) % 256

    def frame(
        self, opcode: int, arg0: int = 0, arg1: int = 0, payload: bytes = b"", *,
        spoil: int = 0, padding: int = 0,
    ) -> bytes:
        """Bytes of a request, to be sent under the next sequence number."""
        parts = request(opcode, self._sequence, arg0, arg1, payload)
        data = bytearray(b"".join(bytes(part) for part in parts))
        if padding:
            trailer = len(data) - REQUEST_ALIGN
            for start, end in ((HEADER_BYTES, REQUEST_ALIGN),
                               (REQUEST_ALIGN + len(payload), trailer),
                               (trailer + TRAILER_BYTES, len(data))):
                data[start:end] = bytes([padding]) * (end - start)
            data[trailer:trailer + TRAILER_BYTES] = crc32(data[:trailer]).to_bytes(4, "little")
        data[-REQUEST_ALIGN] ^= spoil
        return bytes(data)

    def raw(self, about: str, data: bytes, due: Sequence[Due] = (), sequence: int = 0) -> None:
        """Bytes that need not be a frame, and the answers to them."""
        start = len(self.requests)
        self.requests += data
        frames = [self._answer(each, sequence) for each in due]
        self.exchanges.append({"about": about, "request": [start, len(data)], "answers": frames})
        self._count(data, due)

    def status(self) -> None:
        """A STATUS; the counters include it."""
        counters = _U64S.pack(self._good + 1, self._bad, self._last, 0)
        self.ask("counters include this frame", Opcode.STATUS,
                 due=[Due(Opcode.COUNTERS, payload=counters)])

    def identify(self) -> None:
        """An IDENTIFY."""
        info = Struct("<6I").pack(VERSION, self.lanes, 0, 0, 0, 0)
        self.ask("what the device is", Opcode.IDENTIFY,
                 due=[Due(Opcode.INFO, self.lanes, 0, info)])

    def json(self) -> dict:
        """What the bytes are."""
        return {"about": self.about, "lanes": self.lanes, "needs": self.needs,
                "exchanges": self.exchanges}

    def _count(self, data: bytes, due: Sequence[Due]) -> None:
        for each in due:
            if each.opcode == Opcode.ERROR:
                self._bad, self._last = self._bad + 1, int(each.arg0)
            elif each.opcode != Opcode.RESULT:
                self._good += 1
        header = Header.parse(data) if len(data) >= HEADER_BYTES else None
        if header and header.opcode == Opcode.RESET and due == ACK:
            self._good = self._bad = self._last = 0

    def _answer(self, due: Due, sequence: int) -> dict:
        """Append an answer; where it is, and which bytes of it are the device's own."""
        start = len(self.answers)
        head = Header(due.opcode, sequence, due.arg0, due.arg1, len(due.payload)).pack()
        data = b"".join(part.ljust(padded(len(part), self.lanes), b"\0")
                        for part in (head, due.payload))
        trailer = crc32(data).to_bytes(TRAILER_BYTES, "little")
        self.answers += data + trailer.ljust(padded(TRAILER_BYTES, self.lanes), b"\0")
        masks = self._masks(due.opcode, start + padded(HEADER_BYTES, self.lanes),
                            start + len(data))
        return {"opcode": Opcode(due.opcode).name, "bytes": [start, len(self.answers) - start],
                **({"device": masks} if masks else {}),
                **({"optional": True} if due.optional else {})}

    @staticmethod
    def _masks(opcode: int, payload: int, trailer: int) -> list[list]:
        if opcode not in DEVICE_FIELDS:
            return []
        size, fields = _LAYOUTS[opcode]
        masks = [[name, payload + size * fields.index(name), size]
                 for name in DEVICE_FIELDS[opcode]]
        return [*masks, ["trailer", trailer, TRAILER_BYTES]]


class Product:
    """A matrix for a session: loads, words, and the answers to a GEMV.

    Parameters
    ----------
    case : Case
    lanes : int
        Of the session.
    """

    def __init__(self, case: Case, lanes: int):
        self.case, self.lanes = case, lanes
        # Of the format, and not as the driver may cut it.
        self._stream = word_stream(case.tiles, lanes)
        self.blocks, self.groups = self._stream.shape[:2]
        self.scales = mantissa_bytes(mantissas(case.table))

    @property
    def words(self) -> bytes:
        """The whole word stream."""
        return self.payload(0, self.blocks)

    def payload(self, first: int, count: int) -> bytes:
        """Words of some row blocks."""
        return self._stream[first:first + count].tobytes()

    def activations(self, vector: int) -> bytes:
        """Payload of ACTIVATIONS."""
        return activation_rows(self.case.vectors[vector].x).tobytes()

    def arguments(self, columns: int = 1) -> int:
        """arg0 of a GEMV."""
        return self.case.depth | self.groups << 8 | columns << 24

    def results(
        self, vectors: Sequence[int], first: int = 0, count: int | None = None,
        optional: bool = False,
    ) -> list[Due]:
        """RESULTs of some row blocks, for vectors in columns 0, 1, ...: blocks first."""
        count = self.blocks if count is None else count
        sums = {vector: self._padded_sums(vector) for vector in vectors}
        return [Due(Opcode.RESULT, block, column, sums[vector][first + block], optional)
                for block in range(count) for column, vector in enumerate(vectors)]

    def done(self, count: int | None = None) -> Due:
        """DONE of as many row blocks."""
        count = self.blocks if count is None else count
        words = len(self.payload(0, count)) // self.lanes
        return Due(Opcode.DONE, payload=_U64S.pack(0, 0, 0, words))

    def _padded_sums(self, vector: int) -> list[bytes]:
        """Payload of RESULT by row block; rows that only fill up lanes are 0."""
        sums = gemv(self.case.matrix, self.case.vectors[vector].x).astype("<i8").tobytes()
        size = SUM_BYTES * ROWS * self.lanes
        sums = sums.ljust(size * self.blocks, b"\0")
        return [sums[size * block:size * (block + 1)] for block in range(self.blocks)]
