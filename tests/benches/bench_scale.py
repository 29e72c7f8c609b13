"""Scale bench: groups at random distances against numpy, noise wherever nothing is promised."""

from dataclasses import dataclass
from itertools import chain

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from tritstream.golden.fixed_point import (
    GROUP_SUM_BITS,
    MANTISSA_BITS,
    MAX_K,
    ROW_SUM_BITS,
    ROWS,
    SCALE_TRITS,
    SCALES,
)
from tritstream.hw.compute.scale_unit import LANES_PER_UNIT, ScaleUnit
from tritstream.hw.interfaces import SLOTS, Beat, MantissaPort, Slot

from benches.wires import array, signed, start, trit_bits, unsigned

LANES = int(cocotb.plusargs["lanes"])
#: Cycles between the first scale beats of two groups, at least: depth 1.
GROUP_CYCLES = 19
LARGEST = 81920
#: Cycles after the last group in which no further output is allowed.
TAIL = 60


@dataclass
class Group:
    """Inputs of the unit for a group whose first scale beat is in cycle ``at``."""

    at:    int
    first: bool
    last:  bool
    sums:  np.ndarray       # (LANES, ROWS)
    codes: np.ndarray       # (LANES, ROWS)


def random_groups(rng, blocks, start_at=5):
    """Groups of some row blocks, often as close as they can be."""
    groups, at = [], start_at
    for _ in range(blocks):
        count = int(rng.integers(1, 6))
        for index in range(count):
            groups.append(Group(at, index == 0, index == count - 1,
                                rng.integers(-LARGEST, LARGEST + 1, (LANES, ROWS)),
                                rng.integers(0, SCALES, (LANES, ROWS))))
            at += GROUP_CYCLES + int(rng.integers(0, 25)) * int(rng.integers(0, 2))
    return groups


class Schedule:
    """Inputs of every cycle: what the groups need, noise elsewhere."""

    def __init__(self, rng, groups):
        self.cycles = groups[-1].at + SLOTS + ScaleUnit.STAGES + TAIL
        size = (self.cycles, LANES, ROWS)
        self.trits = rng.integers(-1, 2, size)
        self.sums  = rng.integers(-LARGEST, LARGEST + 1, size)
        self.beats = [self._noise(rng) for _ in range(self.cycles)]
        for group in groups:
            self._place(group)

    def _noise(self, rng):
        """Any beat but a valid first scale beat."""
        beat = dict(zip(dict(Beat), (int(bit) for bit in rng.integers(0, 2, 7)), strict=True))
        return beat | {"scale_start": beat["scale_start"] & (1 - beat["valid"])}

    def _place(self, group):
        self.beats[group.at] |= {"valid": 1, "scale_start": 1, "group_first": int(group.first),
                                 "group_last": int(group.last)}
        for row in range(ROWS):
            for digit in range(SCALE_TRITS):
                cycle = group.at + 1 + 3 * row + digit
                self.trits[cycle, :, row] = group.codes[:, row] // 3**digit % 3
                self.sums[cycle, :, row]  = group.sums[:, row]


async def play(dut, schedule):
    """Outputs of every cycle: slot and row sum."""
    trits, sums = (array(dut, name, LANES, ROWS) for name in ("trits", "sums"))
    seen = []
    for cycle in range(schedule.cycles):
        dut.beat.value = Beat.const(schedule.beats[cycle]).as_bits()
        for lane in range(LANES):
            for row in range(ROWS):
                trits[lane][row].value = trit_bits(int(schedule.trits[cycle, lane, row]))
                sums[lane][row].value  = unsigned(
                    int(schedule.sums[cycle, lane, row]), GROUP_SUM_BITS)
        await RisingEdge(dut.clk)
        seen.append((Slot.from_bits(int(dut.slot.value)),
                     signed(int(dut.row_sum.value), ROW_SUM_BITS)))
    return seen


def expected_outputs(groups, mantissas):
    """Return {cycle: (index, first, last, row sum)}, without row sum for a lane left out."""
    expected, total = {}, np.zeros((LANES, ROWS), np.int64)
    for group in groups:
        total = group.sums * mantissas[group.codes] + (0 if group.first else total)
        for index in range(SLOTS):
            row, lane = divmod(index, LANES_PER_UNIT)
            row_sum = int(total[lane, row]) if lane < LANES else None
            cycle = group.at + ScaleUnit.STAGES + index
            expected[cycle] = (index, group.first, group.last, row_sum)
    return expected


def check(seen, expected):
    for cycle, (slot, row_sum) in enumerate(seen):
        assert slot.valid == (cycle in expected), f"cycle {cycle}: slot valid is {slot.valid}"
        if not slot.valid:
            continue
        index, first, last, right = expected[cycle]
        assert (slot.index, slot.first, slot.last) == (index, first, last), (
            f"cycle {cycle}: slot {slot}, not {expected[cycle]}")
        row, lane = divmod(index, LANES_PER_UNIT)
        assert right in (None, row_sum), (
            f"cycle {cycle}, row {row}, lane {lane}: row sum {row_sum}, not {right}")


async def load(dut, mantissas):
    """Write the mantissa table; codes stand there as their trits do on wires."""
    for code, mantissa in enumerate(mantissas):
        wires = sum(trit_bits(code // 3**digit % 3) << 2 * digit for digit in range(SCALE_TRITS))
        dut.load.value = MantissaPort.const(
            {"en": 1, "code": wires, "mantissa": int(mantissa)}).as_bits()
        await RisingEdge(dut.clk)
    dut.load.value = 0


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(seed=[1, 2])
async def random_blocks(dut, seed):
    rng = np.random.default_rng(seed)
    await start(dut)
    for _ in range(2):      # the second time over the tables and sums of the first
        mantissas = rng.integers(0, 1 << MANTISSA_BITS, SCALES)
        await load(dut, mantissas)
        groups = random_groups(rng, 15)
        check(await play(dut, Schedule(rng, groups)), expected_outputs(groups, mantissas))


@cocotb.test(timeout_time=10, timeout_unit="us")
async def latency(dut):
    rng = np.random.default_rng(3)
    await start(dut)
    group = random_groups(rng, 1)[:1]
    seen  = await play(dut, Schedule(rng, group))
    turn  = group[0].at + 1                 # of slot 0
    found = [cycle for cycle, (slot, _) in enumerate(seen) if slot.valid]
    assert found == list(range(found[0], found[0] + SLOTS)), f"slots in cycles {found}"
    assert found[0] - turn + 1 == ScaleUnit.STAGES


def scale_bytes(mantissas):
    """Bytes (10, LANES) of ten scale words that hold the mantissas (ROWS, LANES)."""
    low, high = mantissas & 255, mantissas >> 8
    if LANES == 1:
        return np.stack([low, high], axis=1).reshape(10, 1)
    words = np.empty((10, LANES), int)
    words[::2, :2], words[1::2, :2] = (
        np.stack([low[:, lane], high[:, lane]], axis=1) for lane in range(2))
    if LANES == 3:
        words[::2, 2], words[1::2, 2] = low[:, 2], high[:, 2]
    return words


@cocotb.test(timeout_time=100, timeout_unit="us")
async def direct_mantissas(dut):
    """Mantissas of groups as close as they can be, between groups with codes."""
    rng = np.random.default_rng(4)
    await start(dut)
    table = rng.integers(0, 1 << MANTISSA_BITS, SCALES)
    await load(dut, table)
    ports = array(dut, "bytes", LANES)
    for port in chain.from_iterable(array(dut, "sums", LANES, ROWS)):
        port.value = 1
    dut.direct.value = 1
    expected, seen = [], []
    for _ in range(5):
        mantissas = rng.integers(0, 1 << 16, (ROWS, LANES))
        expected += mantissas.reshape(-1).tolist()
        words = [*rng.integers(0, 256, (16, LANES)), *scale_bytes(mantissas)]
        for place, word in enumerate(words):
            for port, value in zip(ports, word, strict=True):
                port.value = int(value)
            dut.beat.value = Beat.const({
                "valid": 1, "weight": place < 16, "scale_start": place == 23, "group_first": 1,
                "group_last": 1}).as_bits()
            await look(dut, seen)
    dut.beat.value = Beat.const({"weight": 1}).as_bits()
    for _ in range(SLOTS + ScaleUnit.STAGES):
        await look(dut, seen)
    assert seen == expected
    dut.direct.value = 0
    groups = random_groups(rng, 3)
    check(await play(dut, Schedule(rng, groups)), expected_outputs(groups, table))


async def look(dut, seen):
    """Let a cycle pass and keep the row sum of a slot that a lane has."""
    await RisingEdge(dut.clk)
    slot = Slot.from_bits(int(dut.slot.value))
    if slot.valid and slot.index % LANES_PER_UNIT < LANES:
        seen.append(signed(int(dut.row_sum.value), ROW_SUM_BITS))


@cocotb.test(timeout_time=1000, timeout_unit="us")
@cocotb.parametrize(sign=[1, -1])
async def largest_row_sums(dut, sign):
    await start(dut)
    await load(dut, [(1 << MANTISSA_BITS) - 1] * SCALES)
    for port in chain.from_iterable(array(dut, "sums", LANES, ROWS)):
        port.value = unsigned(sign * LARGEST, GROUP_SUM_BITS)
    for port in chain.from_iterable(array(dut, "trits", LANES, ROWS)):
        port.value = trit_bits(2)
    groups = MAX_K // 16
    for group in range(groups):
        dut.beat.value = Beat.const({"valid": 1, "scale_start": 1, "group_first": group == 0,
                                     "group_last": group == groups - 1}).as_bits()
        await RisingEdge(dut.clk)
        dut.beat.value = 0
        await ClockCycles(dut.clk, GROUP_CYCLES - 1)
    expected = sign * groups * LARGEST * ((1 << MANTISSA_BITS) - 1)
    row_sums = []
    for _ in range(SLOTS + ScaleUnit.STAGES):
        slot = Slot.from_bits(int(dut.slot.value))
        if slot.valid and slot.last and slot.index % LANES_PER_UNIT < LANES:
            row_sums.append(signed(int(dut.row_sum.value), ROW_SUM_BITS))
        await RisingEdge(dut.clk)
    assert row_sums and set(row_sums) == {expected}, f"row sums {row_sums}, not {expected}"
