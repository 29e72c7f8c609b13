"""Transports that record the responses to known requests, and give them again without delay."""

from dataclasses import replace
from typing import cast
from zlib import crc32

from tritstream.host.board.matrix_store import Store, StoredPart, StoringTransport
from tritstream.host.board.soc_bus import SocBus
from tritstream.host.board.udp_link import BoardLink
from tritstream.host.errors import TransportError, TransportTimeout
from tritstream.host.layout.prepare import PreparedMatrix, prepare
from tritstream.host.layout.stored import AnyMatrix
from tritstream.host.placement.work import Span
from tritstream.host.protocol.frames import padded
from tritstream.host.protocol.records import Info
from tritstream.host.transports.base import Stored
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import REQUEST_ALIGN, Opcode
from tritstream.scripts.assurance.device_model import DeviceModel

__all__ = ["CannedTransport", "MemoryStore", "Recorder", "Recording"]

#: Buffers in order, up to each that completes a request: the first of them, their number, and the
#: responses.
Recording = list[tuple[bytes | memoryview | Stored, int, bytes]]


class MemoryStore(Store):
    """Store of a board whose memory is in this process.

    Parameters
    ----------
    stores : bool
        Whether matrices are stored at all.

    Members
    -------
    words : dict
        Words of each part with padding, by address.
    """

    def __init__(self, stores: bool):
        super().__init__(SocBus(BoardLink("127.0.0.1", 1, 0)))      # never used
        self._stores = stores
        self.words: dict[int, bytes] = {}

    async def find(
        self, matrix: AnyMatrix, name: str, info: Info, span: Span | None = None,
    ) -> PreparedMatrix | None:
        """Store a matrix or a part of it and return it; None if matrices are not stored."""
        if not self._stores:
            return None
        made = prepare(matrix, info.lanes, info.max_k, name, None,
                       span.chunks if span else None)
        parts = []
        for part in made.parts:
            words = bytes(cast(memoryview, part.payload(0, part.blocks)))
            address = REQUEST_ALIGN * len(self.words)
            self.words[address] = words.ljust(padded(len(words), REQUEST_ALIGN), b"\0")
            parts.append(StoredPart(part.first_group, part.groups, part.blocks, address,
                                    len(words), crc32(self.words[address])))
        return replace(made, parts=tuple(parts))


class _Counting(StoringTransport):
    """Transport that counts round trips: how often the driver awaits responses to new requests.

    Members
    -------
    round_trips : int
        Round trips so far.
    """

    def __init__(self, store: MemoryStore):
        self._store = store
        self._answers = bytearray()
        self._asked = False
        self.round_trips = 0

    @property
    def store(self) -> MemoryStore:
        """Matrices that need not be sent."""
        return self._store

    async def recv(self, count: int) -> bytes:
        """Return response bytes, which are all here: :meth:`.Transport.recv`."""
        self.round_trips += self._asked
        self._asked = False
        if len(self._answers) < count:
            raise TransportTimeout(f"{len(self._answers)} bytes came where {count} are awaited")
        data = bytes(self._answers[:count])
        del self._answers[:count]
        return data

    def ready(self) -> bytes:
        """Return the other response bytes: :meth:`.Transport.ready`."""
        data = bytes(self._answers)
        self._answers.clear()
        return data

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class Recorder(_Counting):
    """Transport to the reference model of a device, which records what it responds.

    Parameters
    ----------
    config : DeviceConfig
        Build parameters of the device.
    store : MemoryStore

    Members
    -------
    recording : Recording
        Buffers and responses so far.
    requests : int
        Requests so far.
    """

    def __init__(self, config: DeviceConfig, store: MemoryStore):
        super().__init__(store)
        self._lanes, self._model = config.lanes, DeviceModel(config)
        self._first: bytes | memoryview | Stored = b""
        self._count = 0
        self.recording: Recording = []
        self.requests = 0

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Give a buffer to the model: :meth:`.Transport.send`."""
        self._asked = True
        sent = self._store.words[data.address] if isinstance(data, Stored) else bytes(data)
        self._first, self._count = self._first or data, self._count + 1
        answers = self._model.feed(sent)
        if answers:
            self.requests += sum(one.opcode != Opcode.RESULT for one in answers)
            responses = b"".join(one.frame(self._lanes) for one in answers)
            self._answers += responses
            self.recording.append((self._first, self._count, responses))
            self._first, self._count = b"", 0


class CannedTransport(_Counting):
    """Transport that responds to recorded requests at once, with the recorded responses.

    Parameters
    ----------
    recording : Recording
        Buffers that will come, in this order. Each first buffer is compared,
        unless it is a view of words.
    store : MemoryStore
    """

    def __init__(self, recording: Recording, store: MemoryStore):
        super().__init__(store)
        self._coming = iter(recording)
        self._left, self._responses = 0, b""

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Take a buffer, which may bring responses: :meth:`.Transport.send`."""
        self._asked = True
        if not self._left:
            first, self._left, self._responses = next(self._coming, (b"", 1, b""))
            if not isinstance(data, memoryview) and data != first:
                raise TransportError("the driver sends another request than was recorded")
        self._left -= 1
        if not self._left:
            self._answers += self._responses
