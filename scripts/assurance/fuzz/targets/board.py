"""Board with memory: registers, responses in memory, directory, packets."""

import asyncio
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from struct import pack
from typing import Any

import numpy as np

from tritstream.host.board.etherbone import answer
from tritstream.host.board.matrix_store import Store
from tritstream.host.board.soc_bus import SocBus
from tritstream.host.board.transport import BoardTransport
from tritstream.host.board.udp_link import BoardLink
from tritstream.host.device import Device
from tritstream.hw.soc.registers import MAGIC, MEMORY
from tritstream.scripts.assurance.fuzz.mutation import NUMBERS, changed_bytes, changed_json
from tritstream.scripts.assurance.fuzz.tape import (
    MATRIX,
    SUMS,
    X,
    answers_to_all,
    changed_answers,
    results_in,
)
from tritstream.scripts.assurance.fuzz.target import Broken, Target

__all__ = ["DIRECTORY", "ETHERBONE", "REGISTERS"]

_LANES, _ALIGN = 8, 64
_MEMORY, _RING = 1 << 20, 1 << 16
#: Registers of an idle board.
_REST = {"magic": MAGIC, "ready": 1, "levels": 0, "lanes": _LANES, "memory": _MEMORY,
         "ring": _RING, "align": _ALIGN, "session": 5, "head": 0, "tail": 0, "written": 0,
         "taken": 0}
_NUMBERS = 1 << 32


class _Board(BoardLink):
    """Link to a board that takes its registers and its ring from an input.

    An input consists of register changes, a mark, and the contents of the ring. A change has six
    bytes: the number of reads before it, the register, and the value.
    """

    def __init__(self, data: bytes):
        super().__init__("board", 1, 0)
        self._registers, self._reads = dict(_REST), 0
        self._changes: dict[int, tuple[int, int]] = {}
        head, _, self._ring = data.partition(b"RING")
        for at in range(0, len(head) - 5, 6):
            self._changes[head[at]] = head[at + 1], int.from_bytes(head[at + 2:at + 6], "little")

    def _step(self) -> None:
        name, value = self._changes.get(self._reads & 255, (255, 0))
        names = list(_REST)
        if name < len(names):
            self._registers[names[name]] = value
        elif self._reads > 4:
            self._registers["written"] = -(-len(self._ring) // _ALIGN)
        self._reads += 1

    async def get(self, *names: str) -> list[int]:
        self._step()
        return [self._registers[name] for name in names]

    async def put(self, name: str, *values: int, then: str) -> int:
        self._step()
        if name == "restart":
            self._registers["session"] = values[0]
        if name == "address":
            self._registers["tail"] = (self._registers["tail"] + 1) % _NUMBERS
        return self._registers[then]

    async def write(self, address: int, data: bytes | memoryview) -> None:
        self._step()

    async def read(self, address: int, size: int) -> bytes:
        first = address - MEMORY - (_MEMORY - _RING)
        return self._ring[first:first + size].ljust(size, b"\0") if first >= 0 else bytes(size)

    def close(self) -> None:
        pass


def _registers_seeds() -> list[bytes]:
    return [b"RING" + _aligned(answers_to_all(_LANES))]


def _aligned(answers: bytes) -> bytes:
    """Return responses, each padded to a unit of the ring."""
    found = b""
    while answers:
        length = int.from_bytes(answers[12:16], "little")
        size = 24 + length + -length % _LANES + 8
        found += answers[:size] + bytes(-size % _ALIGN)
        answers = answers[size:]
    return found


def _registers_changed(data: bytes, rng: Random) -> bytes:
    head, mark, ring = data.partition(b"RING")
    if not mark or rng.random() < 0.1:
        return changed_bytes(data, rng)
    if rng.random() < 0.5:
        value = rng.choice((*NUMBERS, rng.randrange(1 << 32))) % _NUMBERS
        head += pack("<BBI", rng.randrange(40), rng.randrange(len(_REST)), value)
    if rng.random() < 0.5:
        ring = _aligned(changed_answers(ring, _LANES, rng)) if rng.random() < 0.6 \
            else changed_bytes(ring, rng)
    return head + mark + ring


def _run_registers(data: bytes, _: Path) -> None:
    asyncio.run(_product(_Board(data), data))


async def _product(board: _Board, data: bytes) -> None:
    async with Device(BoardTransport(SocBus(board), timeout=0.02), retries=1) as device:
        await device.identify()
        await device.status()
        sums, _ = await device.gemv(await device.prepare(MATRIX), X)
    good = results_in(answers_to_all(_LANES), _LANES)
    if not np.array_equal(sums, SUMS) and results_in(data, _LANES) <= good:
        raise Broken("sums that are in no response")


class _Memory(BoardLink):
    """Link to a board, of which only the memory is read."""

    def __init__(self, data: bytes):
        super().__init__("board", 1, 0)
        self._data = data

    async def read(self, address: int, size: int) -> bytes:
        first = address - MEMORY
        return self._data[first:first + size].ljust(size, b"\0")

    async def write(self, address: int, data: bytes | memoryview) -> None:
        pass


def _directory_seeds() -> list[bytes]:
    part = {"first_group": 0, "groups": 2, "blocks": 1, "address": 1 << 18, "length": 560,
            "crc": 1}
    entry = {"crc": 7, "depth": 2, "shape": [23, 20], "parts": [part]}
    whole = {"lanes": _LANES, "matrices": {"a.b": entry, "c": {**entry, "parts": [part, part]}}}
    return [json.dumps(whole).encode()]


def _directory_changed(data: bytes, rng: Random) -> bytes:
    try:
        return changed_json(json.loads(data), rng, rng.choice((1, 1, 2)))
    except (ValueError, RecursionError):
        return changed_bytes(data, rng)


def _run_directory(data: bytes, _: Path) -> None:
    asyncio.run(_open(pack("<8sII", b"tritdir1", len(data), zlib.crc32(data)) + data))


async def _open(memory: bytes) -> None:
    store = Store(SocBus(_Memory(memory)))
    await store.open(_LANES, _MEMORY)
    if not isinstance(store.free, int) or store.free > _MEMORY:
        raise Broken(f"{store.free} bytes are free of {_MEMORY}")
    if not all(isinstance(name, str) for name in store.names):
        raise Broken("a matrix without a name")


def _etherbone_seeds() -> list[bytes]:
    return [pack(">HBBI", 0x4E6F, 0x10, 0x44, 0) + pack(">BBBB", 0, 15, count, 0)
            + pack(">I", 0) + bytes(4 * count) for count in (1, 8, 240)]


def _run_etherbone(data: bytes, _: Path) -> None:
    found = answer(data)
    if found is not None and (len(found[1]) % 4 or not 0 <= found[0] < _NUMBERS):
        raise Broken(f"{len(found[1])} bytes of words under number {found[0]}")
    asyncio.run(_receive(data))


async def _receive(data: bytes) -> None:
    """Give a link that waits for a response another packet before the response."""
    link = _Asked(data)
    if await link.read(MEMORY, 8) != bytes(range(8)):
        raise Broken("words of another packet")


class _Endpoint(asyncio.DatagramTransport):
    """End of a link that hands each packet to a function."""

    def __init__(self, taken: Callable[[bytes], None]):
        super().__init__()
        self._packet_taken = taken

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Hand over a packet."""
        self._packet_taken(data)


class _Asked(BoardLink):
    """Link that gets the input as response to each packet, also with the expected number, and
    then the valid response.
    """

    def __init__(self, data: bytes):
        super().__init__("board", 1, 0, timeout=0.05, tries=3)
        self._data, self._endpoint = data, _Endpoint(self._asked)

    def _asked(self, packet: bytes) -> None:
        number = packet[12:16]
        for one in (self._data, self._data[:12] + number + self._data[16:]):
            # A response with the expected form cannot be distinguished from the expected response.
            if (found := answer(one)) is None or len(found[1]) != 8 or one[12:16] != number:
                self.datagram_received(one, None)
        self.datagram_received(pack(">HBBIBBBB", 0x4E6F, 0x10, 0x44, 0, 0, 15, 2, 0) + number
                               + bytes([3, 2, 1, 0, 7, 6, 5, 4]), None)


REGISTERS = Target("a board's registers, and responses in its memory: restart, product",
                   _registers_seeds, _run_registers, _registers_changed)
DIRECTORY = Target("the directory in a board's memory", _directory_seeds, _run_directory,
                   _directory_changed)
ETHERBONE = Target("Etherbone packets from a board or from another sender", _etherbone_seeds,
                   _run_etherbone, changed_bytes)
