"""Sessions: requests, and the responses of the reference model to them."""

from collections.abc import Sequence
from struct import Struct
from zlib import crc32

from tritstream.golden.fixed_point import MAX_K, mantissas
from tritstream.golden.tiles import word_stream
from tritstream.host.protocol.operands import activation_rows, mantissa_bytes
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import (
    COUNTER_FIELDS,
    DONE_FIELDS,
    HEADER_BYTES,
    INFO_FIELDS,
    REQUEST_ALIGN,
    TRAILER_BYTES,
    ErrorCode,
    Opcode,
)
from tritstream.scripts.assurance.device_model import DeviceModel
from tritstream.scripts.assurance.frames import Response, frame
from tritstream.scripts.assurance.vectors.matrices import Case

__all__ = ["Product", "Session"]

_INFO = Struct("<6I")
#: Fields that depend on the device or on time, by opcode; they are zero in the files.
_DEVICE_FIELDS: dict[int, tuple[str, ...]] = {
    Opcode.INFO:     ("columns", "max_k", "clock_hz", "build_id"),
    Opcode.DONE:     ("cycles", "input_stalls", "output_stalls"),
    Opcode.COUNTERS: ("cycles",),
}
#: Bytes per field, and the fields of the payload, by opcode.
_LAYOUTS: dict[int, tuple[int, tuple[str, ...]]] = {
    Opcode.INFO: (4, INFO_FIELDS), Opcode.DONE: (8, DONE_FIELDS),
    Opcode.COUNTERS: (8, COUNTER_FIELDS)}
_OUT_OF_SYNC = Response(Opcode.ERROR, 0, ErrorCode.NO_HEADER)


class Session:
    """Requests in order, from a RESET on, and the responses to each.

    Parameters
    ----------
    lanes : int
        Bytes per word.
    about : str
        Subject of the session.
    columns, max_k : int
        Least sizes of a device that can take part.
    cycles : int
        Cycles in every DONE; zero in the files.

    Members
    -------
    requests, answers : bytearray
        All bytes to the device, and all bytes from it.
    exchanges : list of dict
        Requests and responses with their offsets, as JSON.
    """

    def __init__(self, lanes: int, about: str, columns: int = 1, max_k: int = 48,
                 cycles: int = 0):
        self.lanes, self.about = lanes, about
        self.needs = {"columns": columns, "max_k": max_k}
        self.requests, self.answers = bytearray(), bytearray()
        self.exchanges: list[dict] = []
        self._model = DeviceModel(DeviceConfig(lanes, columns, MAX_K))
        self._cycles, self._sequence, self._early = cycles, 0, False
        self.ask("what comes before a session counts no more", Opcode.RESET)

    def ask(
        self, about: str, opcode: int, arg0: int = 0, arg1: int = 0, payload: bytes = b"",
        error: int = 0, *, spoil: int = 0, padding: int = 0,
    ) -> None:
        """Add a request, with a damaged trailer if ``spoil`` is not 0.

        ``padding`` is the byte that all three parts are padded with. Raises
        :class:`AssertionError` unless the model's last response has this ``error`` (0: is none).
        """
        data = self.frame(opcode, arg0, arg1, payload, spoil=spoil, padding=padding)
        responses = self._fed(data)
        last = responses[-1]
        code = last.arg0 if last.opcode == Opcode.ERROR else 0
        assert code == error, f"{about}: the model answers {last}, not error {error}"
        self._add(about, data, responses)
        self._sequence = (self._sequence + 1) % 256

    def frame(
        self, opcode: int, arg0: int = 0, arg1: int = 0, payload: bytes = b"", *,
        spoil: int = 0, padding: int = 0,
    ) -> bytes:
        """Return a request with the next sequence number."""
        data = bytearray(frame(opcode, self._sequence, arg0, arg1, payload, trailer_fault=spoil))
        if padding:
            trailer = len(data) - REQUEST_ALIGN
            for start, end in ((HEADER_BYTES, REQUEST_ALIGN),
                               (REQUEST_ALIGN + len(payload), trailer),
                               (trailer + TRAILER_BYTES, len(data))):
                data[start:end] = bytes([padding]) * (end - start)
            data[trailer:trailer + TRAILER_BYTES] = crc32(data[:trailer]).to_bytes(4, "little")
        return bytes(data)

    def raw(self, about: str, data: bytes, hunt: bool = False) -> None:
        """Add bytes that are no request; ``hunt`` if they start a hunt, which is ERROR 1.

        The device may see only in the next bytes that these are no header. The ERROR is listed
        here nevertheless, with its cause.
        """
        responses = self._fed(data)
        if hunt and not responses:
            responses, self._early = [_OUT_OF_SYNC], True
        assert responses == [_OUT_OF_SYNC] * hunt, f"{about}: the model answers {responses}"
        self._add(about, data, responses)

    def status(self) -> None:
        """Add a STATUS."""
        self.ask("counters include this frame", Opcode.STATUS)

    def identify(self) -> None:
        """Add an IDENTIFY."""
        self.ask("what the device is", Opcode.IDENTIFY)

    def json(self) -> dict:
        """Return the description of the bytes."""
        return {"about": self.about, "lanes": self.lanes, "needs": self.needs,
                "exchanges": self.exchanges}

    def _fed(self, data: bytes) -> list[Response]:
        """Responses of the model, without the ERROR that :meth:`raw` has listed already."""
        responses = self._model.feed(data)
        if self._early and responses:
            self._early = False
            assert responses.pop(0) == _OUT_OF_SYNC
        return responses

    def _add(self, about: str, data: bytes, responses: Sequence[Response]) -> None:
        start = len(self.requests)
        self.requests += data
        refused = bool(responses) and responses[-1].opcode == Opcode.ERROR
        # A device need not have sent the RESULTs of a GEMV that it refuses at its end.
        frames = [self._answer(response, refused and response.opcode == Opcode.RESULT)
                  for response in responses]
        self.exchanges.append({"about": about, "request": [start, len(data)], "answers": frames})

    def _answer(self, response: Response, optional: bool) -> dict:
        """Append a response; return its place, and which of its bytes depend on the device."""
        start = len(self.answers)
        self.answers += response.frame(self.lanes, self._content(response))
        header, payload, _ = response.sizes(self.lanes)
        masks = _masks(response.opcode, start + header, start + header + payload)
        return {"opcode": response.name.split()[0], "bytes": [start, len(self.answers) - start],
                **({"device": masks} if masks else {}), **({"optional": True} if optional else {})}

    def _content(self, response: Response) -> bytes:
        """Payload, with the fields of an INFO that depend on the device set to zero."""
        if response.opcode != Opcode.INFO:
            return response.content(self._cycles if response.opcode == Opcode.DONE else 0)
        fields = zip(INFO_FIELDS, _INFO.unpack(response.payload), strict=True)
        own = _DEVICE_FIELDS[Opcode.INFO]
        return _INFO.pack(*(0 if name in own else value for name, value in fields))


def _masks(opcode: int, payload: int, trailer: int) -> list[list]:
    """Name, offset and size of each field that depends on the device."""
    if opcode not in _LAYOUTS:
        return []
    size, fields = _LAYOUTS[opcode]
    masks: list[list] = [[name, payload + size * fields.index(name), size]
                         for name in _DEVICE_FIELDS[opcode]]
    return [*masks, ["trailer", trailer, TRAILER_BYTES]]


class Product:
    """A matrix in the form in which a session sends it.

    Parameters
    ----------
    case : Case
        Packed matrix with activations.
    lanes : int
        Bytes per word.
    """

    def __init__(self, case: Case, lanes: int):
        self.case = case
        # The stream of the format: the driver may divide it otherwise.
        self._stream = word_stream(case.tiles, lanes)
        self.blocks, self.groups = self._stream.shape[:2]
        self.scales = mantissa_bytes(mantissas(case.table))

    @property
    def words(self) -> bytes:
        """Complete word stream."""
        return self.payload(0, self.blocks)

    def payload(self, first: int, count: int) -> bytes:
        """Return the words of ``count`` row blocks."""
        return self._stream[first:first + count].tobytes()

    def activations(self, vector: int) -> bytes:
        """Return the payload of ACTIVATIONS."""
        return activation_rows(self.case.vectors[vector].x).tobytes()

    def arguments(self, columns: int = 1) -> int:
        """Return arg0 of a GEMV."""
        return self.case.depth | self.groups << 8 | columns << 24
