"""The driver on a stand-in for PYNQ."""

import asyncio
import re
import sys

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.board.axi_bus import LEAST_BYTES
from tritstream.host.errors import DeviceError, TransportClosed
from tritstream.host.open_device import open_device

from support.axi_linux import CHANNELS
from support.host_cases import matrix_of, vectors
from support.pynq_board import CORE_TYPE, PynqBoard

MATRIX, X = matrix_of(700, 256, 3), vectors(2, 256)
#: Options of all that is multiplied here. A simulated core is slow, and the machine may be busy.
ALL = "memory=8,timeout=1000"


@pytest.fixture
def board_of(tmp_path, monkeypatch):
    """Function that makes a board, whose bitstream is the path of its argument."""
    def make(**options):
        board = PynqBoard(tmp_path / "kv260.bit", **options)
        board.install(monkeypatch)
        board.device = f"pynq:{tmp_path}/kv260.bit"
        return board
    return make


def products(board, options=ALL):
    async def work():
        with board.running():
            async with open_device(f"{board.device},{options}") as device:
                assert len(device.devices) == CHANNELS
                prepared = await device.prepare(MATRIX)
                found = [await device.gemv(prepared, x) for x in X]
                assert not any(stats.retries for _, stats in found)
                return [sums for sums, _ in found]
    return asyncio.run(work())


@pytest.mark.parametrize("coherent", [False, True])
def test_products(board_of, coherent):
    """The caches of the CPU hold what the core does not see, or they are coherent."""
    board = board_of(coherent=coherent)
    for sums, x in zip(products(board), X, strict=True):
        np.testing.assert_array_equal(sums, gemv(MATRIX, x))
    assert all(bool(size) != coherent for size in board.copied.values())
    assert board.freed == 1


@pytest.mark.parametrize("missing", ["flush", "invalidate"])
def test_a_missing_synchronization_is_noticed(board_of, missing):
    board = board_of()
    copies = board.synchronize
    board.synchronize = lambda kind, *place: kind == missing or copies(kind, *place)
    with pytest.raises(DeviceError, match="IDENTIFY: gave up after 4 tries"):
        products(board)
    assert board.freed == 1


def refused(board, options="memory=8"):
    """The message without the name of the device; nothing stays allocated."""
    with pytest.raises(TransportClosed) as error:
        open_device(f"{board.device},{options}")
    return str(error.value).removeprefix(f"{board.device}: ")


def test_no_pynq(board_of, monkeypatch):
    board = board_of()
    monkeypatch.setitem(sys.modules, "pynq", None)
    assert refused(board) == (
        "PYNQ is not in this Python (import of pynq halted; None in sys.modules); install it here, "
        "or use uio:")


def test_a_bitstream_that_is_missing(board_of):
    board = board_of()
    board.device = "pynq:other.bit"
    assert refused(board) == (
        "loading the bitstream: Bitstream file other.bit does not exist.")


def test_designs_without_a_core_or_with_several(board_of):
    board = board_of()
    assert refused(board, "ip=ps") == "has no IP ps with registers; there are core, ps"
    assert refused(board, "ip=dma") == "has no IP dma with registers; there are core, ps"
    board.cells["second"] = board.cells["core"]
    assert refused(board) == "has 2 IPs tritstream_axi; give ip=NAME; there are core, ps, second"
    board.cells = {"core": {"type": CORE_TYPE.replace("axi", "dma"), "phys_addr": 0}}
    assert refused(board) == "has 0 IPs tritstream_axi; give ip=NAME; there are core"
    board.cells = {}
    assert refused(board) == "has 0 IPs tritstream_axi; give ip=NAME; there are none"


def test_one_of_several_cores(board_of):
    board = board_of()
    board.cells["second"] = {**board.cells["core"], "phys_addr": 0}     # asserted by the stand-in
    for sums, x in zip(products(board, f"ip=core,{ALL}"), X, strict=True):
        np.testing.assert_array_equal(sums, gemv(MATRIX, x))


def test_memory(board_of):
    board = board_of()
    assert refused(board, "memory=9") == (
        "allocating 9 MB: BO allocation failed: Cannot allocate memory")
    assert refused(board, "memory=2") == (
        f"has {2 << 20} bytes of memory; 4 channels need at least {4 * LEAST_BYTES}, and more to "
        "hold matrices")
    assert board.freed == 1


def test_another_core(board_of):
    board = board_of()
    board.content = {0: 0x1234}
    assert refused(board) == (
        "register 0 is 0x00001234 instead of 0x31585354: no tritstream_axi of this version has "
        "these registers")
    assert board.freed == 1


@pytest.mark.parametrize(("options", "message"), [
    ("memory=0", "memory must be at least 1 MB, not 0"),
    ("buffer=a", "no option 'buffer'; there are ip, memory, timeout")])
def test_wrong_specs(options, message):
    with pytest.raises(ValueError, match=rf"^pynq:kv260.bit\S*: {re.escape(message)}$"):
        open_device(f"pynq:kv260.bit,{options}")
