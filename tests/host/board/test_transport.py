"""Requests to a board: their memory, and which bytes are sent together."""

import asyncio
import random
import re

import pytest

from tritstream.host.board.matrix_store import DIRECTORY_BYTES, Store, StoredPart, _Entry
from tritstream.host.board.request_area import REQUEST_BYTES, RequestArea, runs
from tritstream.host.board.soc_bus import SocBus
from tritstream.host.board.transport import BoardTransport
from tritstream.host.board.udp_link import BoardLink
from tritstream.host.errors import TransportClosed
from tritstream.host.open_device import open_device
from tritstream.host.transports.base import Stored
from tritstream.hw.soc.registers import MEMORY

_PART = StoredPart(0, 1, 1, DIRECTORY_BYTES, 102, 5)


def test_memory_is_not_reused_before_it_was_read():
    """An allocation waits for the descriptors of older allocations that it overlaps."""
    coin, area, held, read = random.Random(5), RequestArea(1000), [], 0
    for index in range(1, 4000):
        size = 64 * coin.choice((1, 2, 3, 17, 300, 512))
        address, before = area.take(size, index)
        assert address >= 1000 and address + size <= 1000 + REQUEST_BYTES
        read = max(read, before or 0)
        held = [one for one in held if one[2] > read]
        assert not [one for one in held if one[0] < address + size and address < one[1]]
        held.append((address, address + size, index))
    assert read < 3999


def test_consecutive_bytes_are_one_run():
    stored = Stored(1 << 20, 100, 7)
    long = bytes(REQUEST_BYTES)
    split = list(runs([b"a" * 64, b"b" * 64, stored, b"c" * 64, long, b"d" * 64]))
    assert split[:3] == [b"a" * 64 + b"b" * 64, stored, b"c" * 64]
    assert b"".join(split[3:-1]) == long and len(split[3]) == REQUEST_BYTES // 8
    assert split[-1] == b"d" * 64
    assert list(runs([])) == []


@pytest.mark.parametrize("spec, start", [
    ("udp", "udp: write udp://HOST:PORT"),
    ("udp://", "no device 'udp://'; there are sim, "),
    ("udp://h:1,lanes=4", "udp://h:1,lanes=4: no option 'lanes'; there are bind, timeout, repeat"),
    ("udp://h,window=x", "udp://h,window=x: window must be a number, not 'x'"),
    ("udp://h,window=0", "timeout, tries and window must be above 0"),
    ("udp://h,timeout=0", "timeout must be above 0 s, not 0.0"),
])
def test_a_wrong_spec(spec, start):
    with pytest.raises(ValueError, match="^" + re.escape(start)):
        open_device(spec)


def test_a_stranger_that_responds_is_refused():
    class Stranger(BoardLink):
        async def get(self, *names):
            return [0] * len(names)

    transport = BoardTransport(SocBus(Stranger("127.0.0.1", 9, 0)))
    with pytest.raises(TransportClosed, match=r"^no board with memory answers there, or its memory "
                                              r"does not work$"):
        asyncio.run(transport.send(bytes(64)))


class Memory:
    """Bus of a board that has only memory."""

    def __init__(self):
        self.data = bytearray(DIRECTORY_BYTES)

    async def read(self, address, size):
        return bytes(self.data[address - MEMORY:address - MEMORY + size])

    async def write(self, address, data):
        self.data[address - MEMORY:address - MEMORY + len(data)] = data


def test_a_damaged_directory_is_empty():
    async def names(lanes=2):
        store = Store(SocBus(memory))
        await store.open(lanes, 1 << 20)
        return store.names

    async def check():
        store = Store(SocBus(memory))
        await store.open(2, 1 << 20)
        store._entries["a"] = _Entry(7, 3, (5, 16), (_PART,))
        await store.publish()
        assert await names() == ["a"]
        assert await names(lanes=4) == []
        spoilt = memory.data.index(b'"depth": 3') + 9
        memory.data[spoilt] ^= 1
        assert await names() == []
        memory.data[spoilt] ^= 1
        assert await names() == ["a"]
        memory.data[0] ^= 1
        assert await names() == []

    memory = Memory()
    asyncio.run(check())
