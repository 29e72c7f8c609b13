"""Systems of boards with memory: clocks, and what a board's memory can do."""

from dataclasses import replace

import pytest
from litedram.phy import HalfRateGENSDRPHY

from tritstream.hw.soc.boards import BOARDS, find_board
from tritstream.hw.soc.memory import MEMORIES
from tritstream.hw.soc.network import NETWORK, NETWORK_HZ


@pytest.mark.parametrize("name", BOARDS)
def test_a_word_of_the_core_is_what_the_memory_moves_in_a_cycle(name):
    memory = MEMORIES[BOARDS[name].memory]
    settings = memory.phy_settings()
    edges = 2 if settings.memtype == "DDR3" else 1
    assert memory.lanes == edges * settings.databits * settings.nphases // 8
    assert memory.size == (
        memory.module.nbanks * memory.module.nrows * memory.module.ncols * settings.databits // 8)
    assert f" {memory.size >> 20} MB of " in BOARDS[name].title


@pytest.mark.parametrize("name", BOARDS)
def test_clocks_of_a_system(name):
    board  = find_board(name)
    system = board.system()
    clocks = {frequency for _, frequency, *_ in system.crg.pll.clkouts.values()}
    phases = MEMORIES[board.memory].phases
    assert phases * MEMORIES[board.memory].clock_hz in clocks
    assert (NETWORK_HZ in clocks) == (board.link == "Ethernet")
    assert hasattr(system.crg, f"cd_{NETWORK}") == (board.link == "Ethernet")
    system.crg.pll.compute_config()         # there are dividers for all of them


def test_a_memory_without_masks_has_words_of_the_bus():
    wide = replace(MEMORIES["m12l64322a"], phy=HalfRateGENSDRPHY, lanes=8)
    with pytest.raises(ValueError, match=r"^the board has no DM pins, so a write of the bus "
                                         r"\(4 bytes\) would damage the rest of a memory word "
                                         r"\(8 bytes\); use a PHY whose word has 4 bytes$"):
        BOARDS["colorlight-i5"].make(wide)
