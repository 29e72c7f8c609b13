"""A UDP proxy that loses, repeats and reorders datagrams, both ways; repeatable by its seed."""

import asyncio
import random
from dataclasses import dataclass, field

__all__ = ["Faults", "LossyProxy"]


@dataclass
class Faults:
    """Shares of datagrams, and what was done to how many.

    A late one comes ``late_by`` datagrams after its twin, which is long after it was answered.
    """

    seed:    int
    drop:    float = 0.0
    repeat:  float = 0.0
    swap:    float = 0.0
    late:    float = 0.0
    late_by: int = 40
    done:    dict = field(default_factory=lambda: dict.fromkeys(
        ("passed", "drop", "repeat", "swap", "late"), 0))


class LossyProxy:
    """Stands between a client and a board; ``async with`` gives the port to send to."""

    def __init__(self, port, faults):
        self._board, self.faults = ("127.0.0.1", port), faults
        self._random = random.Random(faults.seed)
        self._client = None

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self._back, _ = await loop.create_datagram_endpoint(
            lambda: _End(lambda data, _: self._front_way(data)), remote_addr=self._board)
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _End(self._came), local_addr=("127.0.0.1", 0))
        self._front_way = _Way(self._random, self.faults,
                               lambda data: self._front.sendto(data, self._client))
        self._back_way = _Way(self._random, self.faults, self._back.sendto)
        return self._front.get_extra_info("sockname")[1]

    async def __aexit__(self, *_):
        self._front.close()
        self._back.close()

    def _came(self, data, client):
        self._client = client
        self._back_way(data)


class _End(asyncio.DatagramProtocol):
    def __init__(self, received):
        self.datagram_received = received


class _Way:
    """One direction of the link."""

    def __init__(self, coin, faults, send):
        self._coin, self._faults, self._send = coin, faults, send
        self._held, self._later, self._count = None, [], 0

    def __call__(self, data):
        self._count += 1
        while self._later and self._later[0][0] <= self._count:
            self._send(self._later.pop(0)[1])
        if self._flip("drop"):
            return
        if self._flip("late"):
            self._later.append((self._count + self._faults.late_by, data))
        if self._held is None and self._flip("swap"):
            self._held = data
            # A datagram that no other follows must not be held for good.
            asyncio.get_running_loop().call_later(0.05, self._release)
            return
        self._pass(data)
        if self._flip("repeat"):
            self._send(data)
        self._release()

    def _release(self):
        if self._held is not None:
            held, self._held = self._held, None
            self._pass(held)

    def _pass(self, data):
        self._faults.done["passed"] += 1
        self._send(data)

    def _flip(self, what):
        hit = self._coin.random() < getattr(self._faults, what)
        self._faults.done[what] += hit
        return hit
