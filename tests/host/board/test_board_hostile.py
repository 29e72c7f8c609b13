"""Boards that report impossible values: registers, directories, packets."""

import asyncio
import json
import zlib
from struct import pack

import pytest

from tritstream.host.board.matrix_store import DIRECTORY_BYTES, Store
from tritstream.host.board.soc_bus import SocBus
from tritstream.host.board.transport import BoardTransport
from tritstream.host.board.udp_link import BoardLink
from tritstream.host.errors import BadAnswer, TransportClosed
from tritstream.hw.soc.registers import MAGIC, MEMORY

from support.frames import build_frame, build_header

SIZES = {"lanes": 8, "memory": 1 << 20, "ring": 1 << 16, "align": 64}


class Registers:
    """Bus of a board whose registers have the values that a test needs."""

    def __init__(self, **values):
        self.values = {"magic": MAGIC, "ready": 1, "levels": 0, "session": 0, "tail": 0,
                       "written": 0, "head": 0, "taken": 0} | SIZES | values
        self.ring = b""

    async def get(self, *names):
        return [self.values[name] for name in names]

    async def put(self, name, *values, then):
        self.values["session" if name == "restart" else name] = values[0]
        return self.values[then]

    async def read(self, address, size):
        first = address - MEMORY - (SIZES["memory"] - SIZES["ring"])
        return self.ring[first:first + size].ljust(size, b"\0") if first >= 0 else bytes(size)

    async def write(self, address, data):
        pass


@pytest.mark.parametrize("values", [
    {"lanes": 0}, {"lanes": 3}, {"align": 0}, {"ring": 0}, {"ring": 100}, {"memory": 1 << 16},
    {"memory": (1 << 32) - 1}, {"ring": 1 << 30}, {"levels": 1 << 31}, {"levels": 33},
    {"memory": 1 << 29, "ring": 1 << 25},
])
def test_impossible_sizes(values):
    transport = BoardTransport(SocBus(Registers(**values)))
    with pytest.raises(TransportClosed, match="^the board reports impossible sizes: "):
        asyncio.run(transport.send(bytes(64)))


def test_more_responses_than_the_ring_holds():
    async def check():
        board = Registers()
        transport = BoardTransport(SocBus(board))
        await transport.send(b"")
        board.values["written"] = SIZES["ring"] // SIZES["align"] + 1
        with pytest.raises(BadAnswer, match="^the board says that it has written more answers "):
            await transport.recv(1)

    asyncio.run(check())


def test_fewer_responses_than_before():
    async def check():
        board = Registers()
        board.ring = build_frame(8, 0x81)
        transport = BoardTransport(SocBus(board))
        await transport.send(b"")
        board.values["written"] = 1
        assert len(await transport.recv(32)) == 32
        board.values["written"] = 0
        with pytest.raises(BadAnswer, match="or fewer than it had$"):
            await transport.recv(1)

    asyncio.run(check())


def test_more_descriptors_than_were_given():
    class Taking(Registers):
        async def put(self, name, *values, then):
            self.values["tail"] += 5 * (name == "address")
            return await super().put(name, *values, then=then)

    async def check():
        transport = BoardTransport(SocBus(Taking()))
        await transport.send(bytes(64))
        with pytest.raises(BadAnswer, match="^the board says that it took more descriptors than "):
            await transport.recv(1)

    asyncio.run(check())


def test_an_impossible_length_in_memory():
    async def check():
        board = Registers()
        board.ring = build_header(0x82, length=1 << 31)
        transport = BoardTransport(SocBus(board), timeout=0.01)
        await transport.send(b"")
        board.values["written"] = 1
        with pytest.raises(BadAnswer, match="starts with no valid header$"):
            await transport.recv(1)

    asyncio.run(check())


PART = {"first_group": 0, "groups": 1, "blocks": 1, "address": DIRECTORY_BYTES, "length": 102,
        "crc": 5}
ENTRY = {"crc": 7, "depth": 3, "shape": [5, 16], "parts": [PART]}


def names(directory):
    class Memory:
        async def read(self, address, size):
            text = directory if isinstance(directory, bytes) else json.dumps(directory).encode()
            data = pack("<8sII", b"tritdir1", len(text), zlib.crc32(text)) + text
            return data[address - MEMORY:][:size].ljust(size, b"\0")

    store = Store(SocBus(Memory()))
    asyncio.run(store.open(8, 1 << 20))
    return store.names


def test_a_valid_directory():
    assert names({"lanes": 8, "matrices": {"a": ENTRY}}) == ["a"]


@pytest.mark.parametrize("directory", [
    b"{", b"[" * 100000, b'{"lanes": 8, "lanes": 8, "matrices": {}}', [], {"lanes": 8},
    {"lanes": 8, "matrices": 3}, {"lanes": 8, "matrices": {"a": None}},
    {"lanes": 8, "matrices": {"a\n": ENTRY}},
    *({"lanes": 8, "matrices": {"a": ENTRY | change}} for change in (
        {"crc": None}, {"depth": -1}, {"shape": 5}, {"parts": []}, {"parts": [{}]},
        {"parts": [PART | {"address": 0}]}, {"parts": [PART | {"address": 1 << 20}]},
        {"parts": [PART | {"length": 1 << 30}]}, {"parts": [PART | {"address": 1.5}]},
        {"parts": [PART | {"address": DIRECTORY_BYTES + 1}]}, {"parts": [PART | {"more": 1}]})),
])
def test_an_invalid_directory_is_empty(directory):
    assert names(directory) == []


def test_responses_of_another_length_are_ignored():
    class Link(BoardLink):
        """Sends to itself: first a word too many, then the expected response."""

        def sendto(self, packet):
            for count in (3, 2):
                self.datagram_received(
                    pack(">HBBI4B", 0x4E6F, 0x10, 0x44, 0, 0, 15, count, 0) + packet[12:16]
                    + bytes(4 * count), None)

    link = Link("board", 1, 0, tries=1)
    link._endpoint = link
    assert asyncio.run(link.read(MEMORY, 8)) == bytes(8)
