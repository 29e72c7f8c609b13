"""The core fed from memory: LiteX, LiteDRAM and its model of the memory, cycle by cycle."""

from dataclasses import replace

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.hw.protocol import ErrorCode, Opcode
from tritstream.hw.soc.dram_init import DFII
from tritstream.hw.soc.memory import find_memory
from tritstream.hw.soc.registers import CSR, CSR_BASE, CSR_STEP, MAGIC, REGISTERS, UNIT, register
from tritstream.hw.soc.simulated import SimulatedSoC
from tritstream.sim.board import BoardStuck
from tritstream.sim.build import BuildError
from tritstream.sim.soc_build import SocChoice, build_soc

from support.host_cases import matrix_of, vectors
from support.soc_cases import (
    CHOICE,
    MATRIX,
    X,
    answers,
    frames_of,
    load_frames,
    product,
    rows_of,
    settle,
    simulated,
)

LANES = 4


@pytest.fixture
def board():
    with simulated() as board:
        yield board


def test_a_wrong_memory_is_refused():
    with pytest.raises(ValueError, match=r"^unknown memory 'ddr9'; use one of mt48lc16m16, "):
        build_soc(SocChoice("ddr9"))


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("tritstream.sim.soc_build._TOOLS", ("litex-of-tomorrow",))
    with pytest.raises(BuildError, match=r"^litex-of-tomorrow is missing: pip install "
                                         r"'tritstream\[litex\]'$"):
        build_soc(CHOICE)


def test_registers_are_where_the_table_says():
    system = SimulatedSoC(replace(find_memory("mt48lc16m16"), rows=2048), link=False)
    system.finalize()
    places = {name: region.origin for name, region in system.csr_regions.items()}
    assert {name: places[name] for name in CSR[:2]} == {
        name: CSR_BASE + CSR_STEP * CSR.index(name) for name in CSR[:2]}
    names = [csr.name for csr in system.csr_regions["tritstream"].obj]
    assert names == list(REGISTERS)
    assert all(csr.size == 32 for csr in system.csr_regions["tritstream"].obj)
    assert register("ready") == CSR_BASE + 4
    injector = [csr.name for csr in system.csr_regions["sdram"].obj][:len(DFII)]
    assert injector == ["dfii_control", "dfii_pi0_command", "dfii_pi0_command_issue",
                        "dfii_pi0_address", "dfii_pi0_baddress"]


def test_what_a_board_says_of_itself(board):
    found = {name: board.get(name) for name in REGISTERS}
    assert found == dict.fromkeys(REGISTERS, 0) | {
        "magic": MAGIC, "ready": 1, "lanes": LANES, "memory": 8 << 20, "ring": 1 << 14,
        "align": 4}


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_products_from_memory_equal_golden(board, depth):
    matrix, x = matrix_of(90, 256, depth, seed=depth), vectors(1, 256, seed=depth)[0]
    np.testing.assert_array_equal(product(board, matrix, x), gemv(matrix, x))


def test_a_list_of_matrices_runs_without_the_host(board):
    jobs = [(matrix_of(rows, columns, depth, seed=rows), vectors(1, columns, seed=rows)[0])
            for rows, columns, depth in ((70, 96, 3), (41, 512, 1), (20, 1024, 4), (5, 16, 2))]
    end = load_frames(board, [frames_of(matrix, x, LANES, sequence + 1)
                              for sequence, (matrix, x) in enumerate(jobs)])
    assert end > 1 << 15
    settle(board)
    found = answers(board)
    for sequence, (matrix, x) in enumerate(jobs):
        mine = [one for one in found if one.header.sequence == sequence + 1]
        np.testing.assert_array_equal(rows_of(mine, matrix.shape[0]), gemv(matrix, x))
    assert not [one for one in found if one.header.opcode == Opcode.ERROR]


def test_the_memory_feeds_the_core_at_its_own_rate_and_is_refreshed(board):
    matrix, x = matrix_of(120, 2048), vectors(1, 2048)[0]
    load_frames(board, [frames_of(matrix, x, LANES)])
    board.counts()
    began = board.cycles
    settle(board)
    counts, cycles = board.counts(), board.cycles - began
    span = counts.last - counts.first + 1
    assert counts.taken / span > 0.96
    assert sum(counts.causes) == span - 1
    timing = find_memory("mt48lc16m16").module.timing_settings
    assert counts.refreshes >= cycles / timing.tREFI - 8
    np.testing.assert_array_equal(rows_of(answers(board), 120), gemv(matrix, x))


def test_descriptors_count_once_and_in_order(board):
    frame = frames_of(MATRIX, X, LANES)
    board.load(0, frame)
    size = len(frame) // UNIT
    for index in (1, 0xFFFFFFFF, 7):
        board.write(register("address"), np.array([0, size, index]))
        assert board.get("tail") == 0
    board.write(register("address"), np.array([0, 0, 0]))
    assert board.get("tail") == 0                   # of no length
    for _ in range(3):                              # a datagram that arrives three times
        board.write(register("address"), np.array([0, size, 0]))
    assert board.get("tail") == 1
    settle(board)
    found = answers(board)
    assert sum(one.header.opcode == Opcode.DONE for one in found) == 1
    np.testing.assert_array_equal(rows_of(found, 100), gemv(MATRIX, X))


def test_a_full_queue_takes_no_more(board):
    frame = frames_of(MATRIX, X, LANES)
    board.load(0, frame)
    for _ in range(600):
        board.push(0, len(frame))
    tail = board.get("tail")
    assert 512 <= tail < 600
    board.put("restart", 1)
    board.wait("session", 1)
    assert board.get("head") == tail


def test_answers_wait_for_room_in_the_ring(board):
    frame = frames_of(MATRIX, X, LANES)
    load_frames(board, [frame])
    settle(board)
    once = board.get("written")
    answers(board)
    for _ in range(24):
        board.push(0, len(frame))
    with pytest.raises(BoardStuck, match=r"^head is \d+ after 300000 cycles, not 25$"):
        board.wait("head", 25, 300_000)
    units = board.get("ring") // board.get("align")
    assert board.get("written") - board.get("taken") == units < 24 * once
    for wrong in (board.get("written") + 1, board.get("taken") - 1, 0):
        board.put("take", wrong)                    # neither forward too far nor back
        assert board.get("taken") == once
    found = []
    for _ in range(100):
        board.run(3000)
        found += answers(board)
    assert board.get("head") == 25
    each = len(found) // 24
    sums = [rows_of(found[each * job:each * (job + 1)], 100) for job in range(24)]
    np.testing.assert_array_equal(sums, np.tile(gemv(MATRIX, X), (24, 1)))


def test_a_restart_forgets_what_is_under_way(board):
    frame = frames_of(MATRIX, X, LANES)
    load_frames(board, [frame, frame, frame])
    board.run(1500)
    for wrong in (0, 2, 0xFFFFFFFF):
        board.put("restart", wrong)
        board.run(500)
        assert board.get("session") == 0
    board.put("restart", 1)
    board.wait("session", 1)
    board.put("restart", 1)                         # a datagram that arrives late
    board.run(500)
    assert board.get("session") == 1
    assert board.get("head") == board.get("tail") == 3
    board.put("take", board.get("written"))
    np.testing.assert_array_equal(product(board, MATRIX, X, 1 << 20), gemv(MATRIX, X))


def test_damage_in_memory_is_reported(board):
    frame = bytearray(frames_of(MATRIX, X, LANES))
    frame[3000] ^= 1
    load_frames(board, [bytes(frame)])
    settle(board)
    *_, last = answers(board)
    assert (last.header.opcode, last.header.arg0) == (Opcode.ERROR, ErrorCode.TRAILER)
    np.testing.assert_array_equal(product(board, MATRIX, X, 1 << 20), gemv(MATRIX, X))
