"""The request check against the model of the protocol: every bit of every field it compares."""

import sys
from itertools import product

import numpy as np
import pytest

from tritstream.golden.fixed_point import GROUP, MAX_K, SCALES
from tritstream.hw.config import DeviceConfig
from tritstream.hw.control.request_check import RequestCheck
from tritstream.hw.protocol import Opcode
from tritstream.scripts.assurance.device_model import DeviceModel
from tritstream.scripts.assurance.frames import Header
from tritstream.sim.harness import simulate

CONFIGS = [DeviceConfig(1), DeviceConfig(8, 2, 256), DeviceConfig(2, 3, 48), DeviceConfig(64, 5),
           DeviceConfig(16, 17, 64)]
FIELDS = {"opcode": 8, "arg0": 32, "arg1": 32, "length": 32}


def gemv(depth: int, groups: int, columns: int, **fields) -> dict:
    return {"opcode": Opcode.GEMV, "arg0": depth | groups << 8 | columns << 24, "arg1": 1,
            "length": 64, **fields}


def right(config: DeviceConfig) -> list[dict]:
    """Requests that are carried out where ``columns`` vectors of the longest K are loaded."""
    loads = [{"opcode": Opcode.ACTIVATIONS, "arg0": column, "arg1": k, "length": k}
             for column in (0, config.columns - 1) for k in (GROUP, config.max_k)]
    gemvs = [gemv(depth, config.max_groups, columns)
             for depth in range(1, 5) for columns in {1, config.columns}]
    empty = [{"opcode": code, "arg0": 0, "arg1": 0, "length": 0}
             for code in (Opcode.IDENTIFY, Opcode.STATUS, Opcode.RESET)]
    return [*loads, *gemvs, *empty,
            {"opcode": Opcode.SCALES, "arg0": 0, "arg1": 0, "length": 4 * SCALES}]


def neighbours(request: dict) -> list[dict]:
    """A request with each bit of each field flipped, or set alone, and each field one off."""
    found = [request]
    for name, width in FIELDS.items():
        values = [request[name] ^ 1 << bit for bit in range(width)]
        values += [1 << bit for bit in range(width)]
        values += [(request[name] + step) % (1 << width) for step in (1, -1)]
        found += [{**request, name: int(value)} for value in values]
    # K and length are compared with each other too: both wrong in the same way.
    if request["opcode"] == Opcode.ACTIVATIONS:
        lengths = [request["arg1"] ^ 1 << bit for bit in range(32)]
        found += [{**request, "arg1": length, "length": length}
                  for length in [*lengths, MAX_K + GROUP, 0]]
    return found


def sizes(config: DeviceConfig) -> list[dict]:
    """GEMVs of every small or large depth, number of groups and of columns, one off each limit."""
    edges = {0, 1, 2, config.max_groups - 1, config.max_groups, config.max_groups + 1}
    columns = {0, 1, config.columns - 1, config.columns, config.columns + 1, 255}
    return [gemv(*one, length=length) for one in product(range(7), sorted(edges),
                                                         sorted(columns))
            for length in (0, config.lanes, config.lanes + 1)]


def groups(config: DeviceConfig) -> list[dict]:
    """GEMVs of every depth with every length of groups, coded and direct, and of some blocks."""
    lengths = [gemv(depth, config.max_groups, 1, arg1=direct << 31 | length << 24 | 1)
               for depth in range(6) for length in range(128) for direct in range(2)]
    blocks = [gemv(1, config.max_groups, 1, arg1=direct << 31 | 62 << 24 | blocks)
              for direct in range(2) for blocks in (0, 1, 1 << 23, (1 << 24) - 1)]
    return lengths + blocks


def refusals(config: DeviceConfig, requests: list[dict], loads: list[tuple]) -> list[tuple]:
    """Codes of the check and of the model, each with its request, once ``loads`` have been made.

    A load is a column, or None for scales, and its K, or None if it begins without an end; or it is
    ``"forget"``.
    """
    dut, model, pairs = RequestCheck(config), DeviceModel(config), []

    async def ask(ctx, request):
        ctx.set(dut.header, {"magic": 0, "sequence": 0, **request})
        await ctx.tick().repeat(dut.LATENCY)
        return ctx.get(dut.error)

    async def pulse(ctx, name):
        ctx.set(getattr(dut, name), 1)
        await ctx.tick()
        ctx.set(getattr(dut, name), 0)

    async def load(ctx, column, k):
        length = GROUP if k is None else k
        request = ({"opcode": Opcode.SCALES, "arg0": 0, "arg1": 0, "length": 4 * SCALES}
                   if column is None else
                   {"opcode": Opcode.ACTIVATIONS, "arg0": column, "arg1": length, "length": length})
        assert await ask(ctx, request) == 0
        await pulse(ctx, "begin_load")
        if k is not None:
            await pulse(ctx, "end_load")

    async def drive(ctx):
        for step in loads:
            if step == "forget":
                await pulse(ctx, "forget")
                model.forget()
                continue
            column, k = step
            await load(ctx, column, k)
            if column is None:
                model.scaled = k is not None
            elif k is None:
                model.groups.pop(column, None)
            else:
                model.groups[column] = k // GROUP
        for request in requests:
            code = model.refusal(Header(sequence=0, **request))
            pairs.append((request, await ask(ctx, request), int(code or 0)))

    simulate(dut, drive, cycles=4 * len(requests) + 10 * len(loads) + 100)
    return pairs


def wrong(pairs: list[tuple]) -> list[tuple]:
    return [pair for pair in pairs if pair[1] != pair[2]]


def whole(config: DeviceConfig) -> list[tuple]:
    return [(None, 0), *((column, config.max_k) for column in range(config.columns))]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_bit_of_every_field_is_judged(config):
    requests = [near for request in right(config) for near in neighbours(request)]
    pairs = refusals(config, requests, whole(config))
    assert wrong(pairs) == []
    # All codes that a header alone can have, and 0.
    assert {code for _, _, code in pairs} >= {0, 2, 3, 4, 5}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_sizes_at_their_limits(config):
    for loads in (whole(config), [], [(None, 0)]):
        assert wrong(refusals(config, sizes(config), loads)) == []


@pytest.mark.parametrize("config", CONFIGS[:2], ids=str)
def test_lengths_of_groups_at_their_limits(config):
    pairs = refusals(config, groups(config), whole(config))
    assert wrong(pairs) == []
    assert sum(code == 0 for _, _, code in pairs) == 2 * (63 + 15 + 4 + 1) + 2 * 3


@pytest.mark.parametrize("loads", [
    [], [(None, 0)], [(0, 256)], [(0, 256), (None, 0), (None, None)]], ids=str)
def test_direct_mantissas_need_no_scales(loads):
    config = DeviceConfig(8, 2, 256)
    requests = [gemv(1, 16, columns, arg1=direct << 31 | 1)
                for direct in range(2) for columns in (1, 2)]
    pairs = refusals(config, requests, loads)
    assert wrong(pairs) == []
    assert [code for _, _, code in pairs] == [7, 7, 0 if (0, 256) in loads else 7, 7]


@pytest.mark.parametrize("bit", range(32))
def test_a_column_that_is_not_there_has_any_bit(bit):
    # One bit alone, for 1, 2 and 3 columns: a column too many, wherever its bit stands.
    for config in CONFIGS[:3]:
        column = 1 << bit
        request = {"opcode": Opcode.ACTIVATIONS, "arg0": column, "arg1": 16, "length": 16}
        (_, said, expected), = refusals(config, [request], [])
        assert said == expected == (0 if column < config.columns else 5)


def test_a_load_of_a_wrong_column_is_not_taken_for_another():
    # A refused load may not begin one either: only the whole column number names it.
    config = DeviceConfig(1, 3, 48)
    dut, codes = RequestCheck(config), []

    async def drive(ctx):
        async def head(**fields):
            ctx.set(dut.header, {"magic": 0, "sequence": 0, **fields})
            await ctx.tick().repeat(dut.LATENCY)

        async def pulse(signal):
            ctx.set(signal, 1)
            await ctx.tick()
            ctx.set(signal, 0)

        await head(opcode=Opcode.SCALES, arg0=0, arg1=0, length=4 * SCALES)
        await pulse(dut.end_load)
        for column in range(3):
            await head(opcode=Opcode.ACTIVATIONS, arg0=column, arg1=48, length=48)
            await pulse(dut.end_load)
        for bit in range(2, 32):
            await head(opcode=Opcode.ACTIVATIONS, arg0=1 << bit, arg1=48, length=48)
            await pulse(dut.begin_load)
            await head(**gemv(1, 3, 3))
            codes.append(ctx.get(dut.error))

    simulate(dut, drive)
    assert codes == 30 * [0]


def test_only_the_columns_that_are_used_must_be_loaded_and_agree():
    config = DeviceConfig(2, 4, 256)
    rng = np.random.default_rng(1)
    requests = [gemv(1, groups, columns) for groups in (1, 2, 3, 4, 8, 15, 16)
                for columns in range(1, 5)]
    for _ in range(40):
        loads = [(int(column), int(GROUP * rng.choice([1, 2, 3, 4, 8, 15, 16])))
                 for column in rng.permutation(4)[:rng.integers(5)]]
        if rng.random() < 0.8:
            loads.insert(int(rng.integers(len(loads) + 1)), (None, 0))
        assert wrong(refusals(config, requests, loads)) == []


@pytest.mark.parametrize("bit", range(11))
def test_every_bit_of_the_groups_is_compared(bit):
    # 2048 groups are loaded, or one of the others that differ from them in a bit.
    config = DeviceConfig(1, 2)
    groups = 0b10101010101 if bit % 2 else 0b1010101010
    other = groups ^ 1 << bit
    assert 0 < other <= config.max_groups
    loads = [(None, 0), (0, GROUP * groups), (1, GROUP * other)]
    requests = [gemv(1, number, columns) for number in (groups, other) for columns in (1, 2)]
    assert wrong(refusals(config, requests, loads)) == []


def test_what_is_loaded_is_forgotten_or_unloaded():
    config = DeviceConfig(8, 2, 256)
    requests = [gemv(1, 16, 1), gemv(1, 16, 2)]
    assert wrong(refusals(config, requests, [*whole(config), "forget"])) == []
    assert wrong(refusals(config, requests, [*whole(config), "forget", (None, 0)])) == []
    assert wrong(refusals(config, requests, [*whole(config), "forget", *whole(config)])) == []


@pytest.mark.parametrize("column", [None, 0, 1])
def test_a_load_that_begins_without_an_end_unloads(column):
    config = DeviceConfig(8, 2, 256)
    requests = [gemv(1, 16, 1), gemv(1, 16, 2)]
    pairs = refusals(config, requests, [*whole(config), (column, None)])
    assert wrong(pairs) == []
    assert [code for _, _, code in pairs] == ([0, 7] if column == 1 else [7, 7])


def test_more_columns_than_seven_bits_count():
    config, before = DeviceConfig(1, 130, 16), sys.getrecursionlimit()
    loads = [(None, 0), *((column, 16) for column in range(128))]
    requests = [gemv(1, 1, columns) for columns in (1, 127, 128, 129, 130, 131, 255)]
    sys.setrecursionlimit(20_000)       # the simulator goes down a term for each column
    try:
        pairs = [refusals(config, requests, loads[:1]), refusals(config, requests, loads)]
    finally:
        sys.setrecursionlimit(before)
    assert wrong(pairs[0]) == wrong(pairs[1]) == []
    assert [code for _, _, code in pairs[1]] == [0, 0, 0, 7, 7, 5, 5]
