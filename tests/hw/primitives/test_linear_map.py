from functools import reduce
from operator import xor

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.hw.framing.crc import crc_step
from tritstream.hw.primitives.linear_map import linear_map
from tritstream.hw.primitives.shared_terms import share_terms
from tritstream.sim.harness import simulate

from support.ecp5_cells import on_ecp5


class Step(wiring.Component):
    """CRC register after ``size`` bytes with a register of zero before."""

    def __init__(self, size):
        self._size = size
        super().__init__({"data": In(8 * size), "crc": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.crc.eq(linear_map(m, platform, "step", self.data, 32,
                                           lambda bits: crc_step(0, bits, self._size)))
        return m


@pytest.mark.parametrize("form", [lambda component: component, on_ecp5], ids=["generic", "ECP5"])
def test_map_is_its_function(form):
    dut, rng = form(Step(5)), np.random.default_rng(0)

    async def check(ctx):
        for data in [0, *(1 << bit for bit in range(40)), *map(int, rng.integers(0, 1 << 40, 50))]:
            ctx.set(dut.data, data)
            assert ctx.get(dut.crc) == crc_step(0, data, 5)

    simulate(dut, check)


def sums_of(images, width):
    return [[bit for bit, image in enumerate(images) if image >> row & 1] for row in range(width)]


def gates(members):
    """Exclusive ors of four inputs for a sum of so many members."""
    return -(-max(members - 1, 0) // 3)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_terms_give_the_same_sums_with_fewer_gates(size):
    sums = sums_of([crc_step(0, 1 << bit, size) for bit in range(8 * size)], 32)
    terms, short = share_terms(sums, 8 * size)
    assert all(2 <= len(set(term)) == len(term) <= 4 for term in terms)
    assert all(0 <= bit < 8 * size for term in terms for bit in term)
    for members, want in zip(short, sums, strict=True):
        parts = [{member} if member < 8 * size else set(terms[member - 8 * size])
                 for member in members]
        assert reduce(xor, parts, set()) == set(want)
    after, before = (sum(gates(len(members)) for members in group) for group in (short, sums))
    assert after + len(terms) < (before if size < 4 else 0.7 * before)


def test_sums_without_common_terms_are_left_alone():
    assert share_terms([[0, 1, 2], [3], []], 4) == ([], [[0, 1, 2], [3], []])
