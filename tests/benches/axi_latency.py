"""Memory with latency, gaps and pauses, for rates: AxiRam of cocotbext-axi serves no such reads."""

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi.axi_ram import AxiRamWrite
from cocotbext.axi.memory import Memory

__all__ = ["LATENCY", "LatencyRam"]

#: Cycles from an address to its first word.
LATENCY = 300
#: A refresh: cycles between the starts of two, and cycles that one takes.
_PERIOD, _REFRESH = 1950, 130
#: Share of cycles in which a gap starts, and its longest length in cycles.
_GAPS, _LONGEST = 0.01, 8


class LatencyRam(Memory):
    """Memory that reads a word per cycle, :data:`LATENCY` cycles after its address.

    It is closed during refreshes and gaps, and offers a word in each other cycle.

    Members
    -------
    beats : list of (int, int)
        For each word that was read: its address, and how many words the memory had offered.
    """

    read_if = None

    def __init__(self, bus, clock, reset, active, size):
        super().__init__(size)
        self.write_if = AxiRamWrite(bus.write, clock, reset, active, mem=self.mem)
        self.beats = []
        cocotb.start_soon(self._serve(bus.read.ar, bus.read.r, clock))

    async def _serve(self, ar, r, clock):
        waiting, offered, now, gap = deque(), 0, 0, 0
        rng   = np.random.default_rng(1)
        lanes = len(r.rdata) // 8
        r.rvalid.value = r.rid.value = r.rresp.value = 0
        ar.arready.value = 1
        while True:
            gap = gap - 1 if gap else int(rng.integers(1, _LONGEST + 1) * (rng.random() < _GAPS))
            is_open = not gap and now % _PERIOD >= _REFRESH
            offered += is_open
            due = is_open and waiting and waiting[0][0] <= now
            if due:
                _, address, left = entry = waiting[0]
                r.rdata.value = int.from_bytes(self.read(address % self.size, lanes), "little")
                r.rlast.value = int(left == 1)
                entry[1:] = address + lanes, left - 1
                self.beats.append((address, offered))
                if left == 1:
                    waiting.popleft()
            r.rvalid.value = int(bool(due))
            await RisingEdge(clock)
            assert not due or int(r.rready.value), "a word was not taken"
            if int(ar.arvalid.value):
                waiting.append([now + LATENCY, int(ar.araddr.value), int(ar.arlen.value) + 1])
            now += 1
