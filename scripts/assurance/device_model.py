"""Reference model of a device: every response that docs/protocol.md requires, byte by byte.

The RTL fuzz compares devices with it, the conformance vectors and the tapes of the file fuzz are
made with it, and the fake device of the driver's tests is one. It shares no code with the RTL, the
driver or the golden model, except for the constants of the protocol and of the number format.
"""

from collections.abc import Iterator
from struct import pack, unpack_from
from zlib import crc32

import numpy as np

from tritstream.golden.fixed_point import GROUP, MANTISSA_BITS, MAX_DEPTH, SCALES
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import (
    HEADER_BYTES,
    MAGIC,
    REQUEST_ALIGN,
    TRAILER_BYTES,
    VERSION,
    ErrorCode,
    Opcode,
)
from tritstream.scripts.assurance.frames import Exchange, Header, Response, parse_header
from tritstream.scripts.assurance.row_sums import row_sums

__all__ = ["DeviceModel"]

_MAGIC = MAGIC.to_bytes(2, "little")
#: Most chunks per group, by depth.
_LONGEST = {1: 63, 2: 15, 3: 4, 4: 1}


class DeviceModel:
    """A device that takes words and returns the responses that are expected.

    Parameters
    ----------
    config : DeviceConfig
        Build parameters of the device.

    Members
    -------
    groups : dict
        Chunks of 16 of the loaded activations, by column.
    scaled : bool
        Whether scales are loaded.
    header : Header or None
        Header of the current frame.
    """

    def __init__(self, config: DeviceConfig):
        self._config = config
        self.restart()

    def restart(self) -> None:
        """Reset the device by its pin."""
        self._held = bytearray()
        self.header: Header | None = None
        self._hunting = False
        self._resets = 0
        self._clear_counters()
        self.forget()

    def forget(self) -> None:
        """Discard activations and scales."""
        self.groups: dict[int, int] = {}
        self.scaled = False
        self._vectors: dict[int, np.ndarray] = {}
        self._mantissas = np.zeros(SCALES, np.int64)

    def _clear_counters(self) -> None:
        self._valid = self._invalid = self._last_error = 0

    @property
    def missing(self) -> int:
        """Number of bytes that the current frame still takes."""
        return self.header.size - len(self._held) if self.header else 0

    def feed(self, data: bytes) -> list[Response]:
        """Take complete words and return the responses to all frames that end in them.

        The RESULTs of a frame that has not ended are not among them: see :meth:`results`.
        """
        return [response for exchange in self.exchanges(data) for response in exchange.responses]

    def exchanges(self, data: bytes) -> Iterator[Exchange]:
        """Take complete words and yield each frame that ends in them, and each dropped word."""
        self._held += data
        while (exchange := self._step()) is not None:
            yield exchange

    def results(self) -> list[Response]:
        """Return the RESULTs that are expected of the current frame so far."""
        if not self.header or self.header.opcode != Opcode.GEMV or self.refusal(self.header):
            return []
        return self._products(self.header, bytes(self._held[REQUEST_ALIGN:self.header.trailer]))

    def abandon(self) -> list[Response]:
        """End the current frame by the pin ``abandon`` and return the responses to it."""
        header, held = self.header, bytes(self._held)
        results = self.results()
        self.header = None
        self._held.clear()
        if header is None:
            hunting, self._hunting = self._hunting, False
            return [] if hunting or not held else [self._out_of_sync()]
        if len(held) >= header.trailer + max(self._config.lanes, TRAILER_BYTES):
            return self._conclude(header, held).responses
        self._start_load(header, len(held) > REQUEST_ALIGN)
        return [*results, self._error(ErrorCode.TRAILER, header)]

    def _step(self) -> Exchange | None:
        """Process the first words in the buffer; return None if more words are needed."""
        if not self.header:
            return self._find_header()
        header = self.header
        if len(self._held) < header.size:
            return None
        frame = bytes(self._held[:header.size])
        del self._held[:header.size]
        self.header = None
        return self._conclude(header, frame)

    def _find_header(self) -> Exchange | None:
        lanes = self._config.lanes
        size = -(-HEADER_BYTES // lanes) * lanes
        if len(self._held) < lanes:
            return None
        if not any(self._held[:lanes]):
            return self._drop(lanes, [])
        # With one lane, a word is the first byte of the magic only.
        if not _MAGIC.startswith(self._held[:min(max(lanes, len(self._held)), 2)]):
            return self._hunt(lanes)
        if len(self._held) < size:
            return None
        self.header = parse_header(self._held)
        if not self.header:
            return self._hunt(size)
        self._hunting = False
        return Exchange(None, b"", [])

    def _hunt(self, size: int) -> Exchange:
        """Drop bytes that are not a header; only the first ones of a hunt cause ERROR 1."""
        hunting, self._hunting = self._hunting, True
        return self._drop(size, [] if hunting else [self._out_of_sync()])

    def _drop(self, size: int, responses: list[Response]) -> Exchange:
        dropped = bytes(self._held[:size])
        del self._held[:size]
        return Exchange(None, dropped, responses)

    def _out_of_sync(self) -> Response:
        return self._error(ErrorCode.NO_HEADER, Header(0, 0, 0, 0, 0))

    def _error(self, code: ErrorCode, header: Header) -> Response:
        self._invalid, self._last_error = self._invalid + 1, int(code)
        return Response(Opcode.ERROR, header.sequence, int(code), header.opcode)

    def _conclude(self, header: Header, frame: bytes) -> Exchange:
        """Return the responses to a frame that has ended."""
        payload = frame[REQUEST_ALIGN:REQUEST_ALIGN + header.length]
        code = self.refusal(header)
        results = [] if code or header.opcode != Opcode.GEMV else self._products(header, payload)
        self._start_load(header, header.length > 0)
        if crc32(frame[:header.trailer]) != unpack_from("<I", frame, header.trailer)[0]:
            code = ErrorCode.TRAILER
        code = code or self._content_fault(header, payload)
        if code:
            return Exchange(header, payload, [*results, self._error(code, header)])
        self._valid += 1
        return Exchange(header, payload, [*results, self._obey(header, payload)])

    def refusal(self, header: Header) -> ErrorCode | None:
        """Return why the header alone is refused: the lowest code that applies, or None."""
        if header.opcode > Opcode.RESET:
            return ErrorCode.OPCODE
        if header.opcode == Opcode.GEMV:
            return self._gemv_refusal(header)
        lengths: dict[int, int] = {Opcode.ACTIVATIONS: header.arg1, Opcode.SCALES: 4 * SCALES}
        if header.length != lengths.get(header.opcode, 0):
            return ErrorCode.LENGTH
        if header.opcode == Opcode.ACTIVATIONS and not (
                header.arg0 < self._config.columns and header.arg1 % GROUP == 0
                and 0 < header.arg1 <= self._config.max_k):
            return ErrorCode.SIZE
        return None

    def _gemv_refusal(self, header: Header) -> ErrorCode | None:
        sizes = header.sizes
        if header.length == 0 or header.length % self._config.lanes:
            return ErrorCode.LENGTH
        if not 1 <= sizes.depth <= MAX_DEPTH:
            return ErrorCode.DEPTH
        if not (1 <= GROUP * sizes.chunks <= self._config.max_k and sizes.blocks
                and 1 <= sizes.columns <= self._config.columns
                and sizes.length <= _LONGEST[sizes.depth]):
            return ErrorCode.SIZE
        loaded = [self.groups.get(column) for column in range(sizes.columns)]
        if not (self.scaled or sizes.direct) or None in loaded:
            return ErrorCode.NOT_LOADED
        return ErrorCode.SIZE if any(count != sizes.chunks for count in loaded) else None

    def _content_fault(self, header: Header, payload: bytes) -> ErrorCode | None:
        """Return the fault that only the complete payload shows, or None."""
        if header.opcode == Opcode.SCALES:
            fits = all(value >> MANTISSA_BITS == 0 for value in unpack_from(f"<{SCALES}I", payload))
            return None if fits else ErrorCode.SIZE
        if header.opcode == Opcode.GEMV and header.length != (
                header.sizes.blocks * header.sizes.block_words * self._config.lanes):
            return ErrorCode.LENGTH
        return None

    def _start_load(self, header: Header, any_word: bool) -> None:
        """Forget what a valid load replaces, which its first payload word overwrites."""
        if any_word and not self.refusal(header):
            if header.opcode == Opcode.ACTIVATIONS:
                self.groups.pop(header.arg0, None)
            if header.opcode == Opcode.SCALES:
                self.scaled = False

    def _obey(self, header: Header, payload: bytes) -> Response:
        """Carry out a valid request and return the last response to it."""
        config = self._config
        match header.opcode:
            case Opcode.IDENTIFY:
                info = (VERSION, config.lanes, config.columns, config.max_k, config.clock_hz,
                        config.build_id)
                return Response(Opcode.INFO, header.sequence, config.lanes, 0, pack("<6I", *info))
            case Opcode.GEMV:
                words = header.length // config.lanes
                return Response(Opcode.DONE, header.sequence, counts=(words,))
            case Opcode.STATUS:
                counts = self._valid, self._invalid, self._last_error, self._resets
                return Response(Opcode.COUNTERS, header.sequence, counts=counts)
            case Opcode.ACTIVATIONS:
                self._vectors[header.arg0] = np.frombuffer(payload, np.int8).astype(np.int64)
                self.groups[header.arg0] = header.arg1 // GROUP
            case Opcode.SCALES:
                self._mantissas = np.frombuffer(payload, "<u4").astype(np.int64)
                self.scaled = True
            case Opcode.RESET:
                self._resets += 1
                self._clear_counters()
                self.forget()
        return Response(Opcode.ACK, header.sequence)

    def _products(self, header: Header, words: bytes) -> list[Response]:
        """Return the RESULTs of the row blocks that are complete."""
        sizes, lanes = header.sizes, self._config.lanes
        block_bytes = sizes.block_words * lanes
        blocks = min(len(words) // block_bytes, sizes.blocks)
        sums = row_sums(words[:blocks * block_bytes], sizes, lanes,
                        [self._vectors[column] for column in range(sizes.columns)],
                        self._mantissas)
        return [Response(Opcode.RESULT, header.sequence, block, column,
                         sums[block, column].astype("<i8").tobytes())
                for block in range(blocks) for column in range(sizes.columns)]
