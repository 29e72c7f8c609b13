"""Fake board with memory: the fake device of the driver's tests, and a store that it reads."""

from tritstream.host.board.matrix_store import DIRECTORY_BYTES, Store, StoringTransport
from tritstream.host.transports.base import Stored

from support.peer import Peer

__all__ = ["BoardPeer"]


class _Memory:
    """Bus of a board that has only memory."""

    def __init__(self, size):
        self.data, self.written = bytearray(size), 0

    async def read(self, address, size):
        return bytes(self.data[address:address + size])

    async def write(self, address, data):
        self.written += len(data)
        self.data[address:address + len(data)] = data


class BoardPeer(Peer, StoringTransport):
    """A peer with so many bytes for words of matrices.

    Members
    -------
    memory : _Memory
        Its memory, which counts the bytes that were ``written``.
    stored : int
        Bytes of words that were taken from the memory.
    """

    fold_words = None

    def __init__(self, capacity, lanes=8, **options):
        super().__init__(lanes, **options)
        self.memory, self.stored = _Memory(DIRECTORY_BYTES + capacity), 0
        self._store, self._opened = Store(self.memory), False

    @property
    def store(self):
        return self._store

    async def send(self, data):
        if not self._opened:
            self._opened = True
            await self._store.open(self.lanes, len(self.memory.data))
        if isinstance(data, Stored):
            self.stored += data.length
            data = bytes(self.memory.data[data.address:data.address + data.size])
        await super().send(data)
