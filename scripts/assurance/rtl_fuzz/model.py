"""What docs/protocol.md says a device must answer, byte by byte, without a look at the RTL.

Constants come from :mod:`tritstream.hw.protocol`, trits of bytes from :mod:`tritstream.golden.tiles`; the rest was
written from the page.
"""

from struct import pack, unpack_from
from zlib import crc32

import numpy as np

from tritstream.golden.fixed_point import GROUP, MANTISSA_BITS, MAX_DEPTH, ROWS, SCALES, tile_bytes
from tritstream.golden.tiles import unpack
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import (
    HEADER_BYTES,
    HEADER_CRC_OFFSET,
    MAGIC,
    REQUEST_ALIGN,
    TRAILER_BYTES,
    VERSION,
    ErrorCode,
    Opcode,
)
from tritstream.scripts.assurance.rtl_fuzz.due import Due, Head

__all__ = ["Model"]

_TABLE = np.ones(SCALES, np.float32)


class Model:
    """A device in words: tells the answers due to what it is fed.

    Parameters
    ----------
    config : DeviceConfig

    Members
    -------
    groups : dict
        Groups loaded, by column.
    scaled : bool
        Whether scales are loaded.
    head : Head or None
        The frame at hand.
    """

    def __init__(self, config: DeviceConfig):
        self._config = config
        self.restart()

    def restart(self) -> None:
        """The reset pin."""
        self._held = bytearray()
        self.head: Head | None = None
        self._hunting = False
        self._resets = 0
        self._forget()

    @property
    def missing(self) -> int:
        """Bytes that the frame at hand still takes."""
        return self.head.size - len(self._held) if self.head else 0

    def feed(self, data: bytes) -> list[Due]:
        """Take whole words; the answers that are due when the last one is taken, but for RESULTs
        of a frame that has not ended (:meth:`results`).
        """
        self._held += data
        due: list[Due] = []
        while (step := self._step()) is not None:
            due += step
        return due

    def results(self) -> list[Due]:
        """RESULTs due of the frame at hand."""
        if not self.head or self.head.opcode != Opcode.GEMV or self._refusal(self.head):
            return []
        return self._products(self.head, bytes(self._held[REQUEST_ALIGN:self.head.trailer]))

    def abandon(self) -> list[Due]:
        """The pin ``abandon``: what has begun will not go on; the answers to it."""
        head, held = self.head, bytes(self._held)
        self._held.clear()
        if head is None:
            hunting, self._hunting = self._hunting, False
            return [] if hunting or not held else [self._lost()]
        if len(held) >= head.trailer + max(self._config.lanes, TRAILER_BYTES):
            return self._conclude(head, held)
        self.head, self._held = head, bytearray(held)
        results = self.results()
        self._begin_load(head, len(held) > REQUEST_ALIGN)
        self.head, self._held = None, bytearray()
        return [*results, self._error(ErrorCode.TRAILER, head)]

    def _step(self) -> list[Due] | None:
        """Deal with what comes first; None when more must come before."""
        if self.head:
            if len(self._held) < self.head.size:
                return None
            frame = bytes(self._held[:self.head.size])
            del self._held[:self.head.size]
            return self._conclude(self.head, frame)
        return self._find()

    def _find(self) -> list[Due] | None:
        lanes = self._config.lanes
        size = -(-HEADER_BYTES // lanes) * lanes
        magic = MAGIC.to_bytes(2, "little")
        if len(self._held) < lanes:
            return None
        if not any(self._held[:lanes]):
            del self._held[:lanes]
            return []
        if not magic.startswith(bytes(self._held[:min(lanes, 2)])):
            return self._hunt(lanes)
        if len(self._held) >= 2 and self._held[:2] != magic:
            return self._hunt(lanes)        # one lane: its first byte, but not its second
        if len(self._held) < size:
            return None
        if unpack_from("<I", self._held, HEADER_CRC_OFFSET)[0] != crc32(
                self._held[:HEADER_CRC_OFFSET]):
            return self._hunt(size)
        self.head = Head(*unpack_from("<BBIII", self._held, 2))
        self._hunting = False
        return []

    def _hunt(self, dropped: int) -> list[Due]:
        del self._held[:dropped]
        before, self._hunting = self._hunting, True
        return [] if before else [self._lost()]

    def _lost(self) -> Due:
        return self._error(ErrorCode.NO_HEADER, Head(0, 0, 0, 0, 0))

    def _error(self, code: ErrorCode, head: Head) -> Due:
        self._bad, self._last = self._bad + 1, int(code)
        return Due(Opcode.ERROR, head.sequence, int(code), head.opcode)

    def _conclude(self, head: Head, frame: bytes) -> list[Due]:
        """A frame has ended: all answers to it."""
        self.head = None
        payload = frame[REQUEST_ALIGN:REQUEST_ALIGN + head.length]
        code = self._refusal(head)
        results = [] if code or head.opcode != Opcode.GEMV else self._products(head, payload)
        self._begin_load(head, head.length > 0)
        if crc32(frame[:head.trailer]) != unpack_from("<I", frame, head.trailer)[0]:
            code = ErrorCode.TRAILER
        code = code or self._content_fault(head, payload)
        if code:
            return [*results, self._error(code, head)]
        self._good += 1
        return [*results, self._obey(head, payload)]

    def _refusal(self, head: Head) -> ErrorCode | None:
        """Why the header alone is refused, the lowest code that holds."""
        if head.opcode > Opcode.RESET:
            return ErrorCode.OPCODE
        length_due = {Opcode.ACTIVATIONS: head.arg1, Opcode.SCALES: 4 * SCALES}.get(head.opcode, 0)
        if head.opcode == Opcode.GEMV:
            return self._gemv_refusal(head)
        if head.length != length_due:
            return ErrorCode.LENGTH
        if head.opcode == Opcode.ACTIVATIONS and not (
                head.arg0 < self._config.columns and head.arg1 % GROUP == 0
                and 0 < head.arg1 <= self._config.max_k):
            return ErrorCode.SIZE
        return None

    def _gemv_refusal(self, head: Head) -> ErrorCode | None:
        depth, groups, columns = head.sizes
        if head.length == 0 or head.length % self._config.lanes:
            return ErrorCode.LENGTH
        if not 1 <= depth <= MAX_DEPTH:
            return ErrorCode.DEPTH
        if not (1 <= GROUP * groups <= self._config.max_k and 1 <= columns <= self._config.columns
                and head.arg1):
            return ErrorCode.SIZE
        loaded = [self.groups.get(column) for column in range(columns)]
        if not self.scaled or None in loaded:
            return ErrorCode.NOT_LOADED
        return ErrorCode.SIZE if any(count != groups for count in loaded) else None

    def _content_fault(self, head: Head, payload: bytes) -> ErrorCode | None:
        """Faults that only the whole payload shows."""
        if head.opcode == Opcode.SCALES:
            fits = all(value >> MANTISSA_BITS == 0 for value in unpack_from(f"<{SCALES}I", payload))
            return None if fits else ErrorCode.SIZE
        if head.opcode == Opcode.GEMV and head.length != head.arg1 * self._block_bytes(head):
            return ErrorCode.LENGTH
        return None

    def _block_bytes(self, head: Head) -> int:
        depth, groups, _ = head.sizes
        return groups * tile_bytes(depth) * self._config.lanes

    def _begin_load(self, head: Head, any_word: bool) -> None:
        """A load that is carried out forgets what it replaces at its first payload word."""
        if any_word and not self._refusal(head):
            if head.opcode == Opcode.ACTIVATIONS:
                self.groups.pop(head.arg0, None)
            if head.opcode == Opcode.SCALES:
                self.scaled = False

    def _obey(self, head: Head, payload: bytes) -> Due:
        config = self._config
        match head.opcode:
            case Opcode.IDENTIFY:
                info = (VERSION, config.lanes, config.columns, config.max_k, config.clock_hz,
                        config.build_id)
                return Due(Opcode.INFO, head.sequence, config.lanes, 0, pack("<6I", *info))
            case Opcode.GEMV:
                return Due(Opcode.DONE, head.sequence, counts=(head.length // config.lanes,))
            case Opcode.STATUS:
                counts = self._good, self._bad, self._last, self._resets
                return Due(Opcode.COUNTERS, head.sequence, counts=counts)
            case Opcode.ACTIVATIONS:
                self._vectors[head.arg0] = np.frombuffer(payload, np.int8).astype(np.int64)
                self.groups[head.arg0] = head.arg1 // GROUP
            case Opcode.SCALES:
                self._mantissas = np.frombuffer(payload, "<u4").astype(np.int64)
                self.scaled = True
            case Opcode.RESET:
                self._resets += 1
                self._forget()
        return Due(Opcode.ACK, head.sequence)

    def _forget(self) -> None:
        self.groups: dict[int, int] = {}
        self.scaled = False
        self._vectors: dict[int, np.ndarray] = {}
        self._good = self._bad = self._last = 0

    def _products(self, head: Head, words: bytes) -> list[Due]:
        """RESULTs of the row blocks that are whole."""
        depth, groups, columns = head.sizes
        lanes = self._config.lanes
        blocks = min(len(words) // self._block_bytes(head), head.arg1)
        if not blocks:
            return []
        beats = np.frombuffer(words, np.uint8, blocks * self._block_bytes(head))
        tiles = beats.reshape(blocks, groups, tile_bytes(depth), lanes).transpose(0, 3, 1, 2)
        rows, k = ROWS * lanes * blocks, GROUP * groups
        matrix = unpack(np.ascontiguousarray(tiles.reshape(-1, groups, tile_bytes(depth))), depth,
                        (rows, k), _TABLE)
        weights = matrix.q.reshape(rows, groups, GROUP).astype(np.int64)
        scales = self._mantissas[matrix.codes]
        sums = [((weights * self._vectors[column].reshape(groups, GROUP)).sum(2) * scales).sum(1)
                .reshape(blocks, ROWS * lanes) for column in range(columns)]
        return [Due(Opcode.RESULT, head.sequence, block, column,
                    sums[column][block].astype("<i8").tobytes())
                for block in range(blocks) for column in range(columns)]
