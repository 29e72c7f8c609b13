"""The part of PYNQ that the driver calls, in front of a simulated core with four channels.

Names, arguments, attributes and errors are those of PYNQ 3.0.1 and 3.1 (``pynq/overlay.py``,
``pynq/mmio.py``, ``pynq/buffer.py``): a slice of an allocated array has its own address, and only
``flush`` and ``invalidate`` of a slice copy its bytes between the CPU and the core.
"""

import asyncio
import sys
from contextlib import contextmanager
from types import ModuleType

import numpy as np

from tritstream.hw.axi.ip_xact import LIBRARY, VENDOR, VERSION
from tritstream.hw.axi.registers import BANK, MAGIC, register
from tritstream.sim.axi_build import build_axi
from tritstream.sim.axi_core import ChannelMemory, SimulatedCore

from support.axi_linux import ADDRESS, CHANNELS, CONFIG, SIZE

__all__ = ["CORE_TYPE", "PynqBoard"]

#: Type of the core in the metadata of an overlay.
CORE_TYPE = f"{VENDOR}:{LIBRARY}:tritstream_axi:{VERSION}"
#: Place of the registers, and cycles simulated at a time.
_REGISTERS, _BYTES, _STEP = 0xA000_0000, BANK * 8, 500


class PynqBoard:
    """A board with one bitstream, whose memory can be allocated once.

    Parameters
    ----------
    bitstream : Path
        The only file that it can load.
    coherent : bool
        Whether the core sees the caches of the CPU.

    Members
    -------
    cells : dict
        Metadata of the bitstream.
    content : dict
        Registers by offset where no core runs.
    copied : dict
        Bytes copied by each method of an array.
    freed : int
        Calls of ``freebuffer``.
    """

    def __init__(self, bitstream, coherent=False):
        self._bitstream, self._coherent = str(bitstream), coherent
        self.cells = {
            "core": {"type": CORE_TYPE, "phys_addr": _REGISTERS, "addr_range": _BYTES},
            "ps": {"type": "xilinx.com:ip:zynq_ultra_ps_e:3.5", "gpio": {}, "interrupts": {}}}
        self.content = {register("magic"): MAGIC, register("channels"): CHANNELS}
        self.copied, self.freed = {"flush": 0, "invalidate": 0}, 0
        self.core, self._loaded = None, False
        self._device = np.zeros(SIZE, np.uint8)
        self._cpu = self._device if coherent else np.zeros_like(self._device)

    def install(self, monkeypatch):
        """Make ``import pynq`` return the stand-in."""
        module = ModuleType("pynq")
        module.Overlay, module.MMIO, module.allocate = self._overlay, self._mmio, self._allocate
        monkeypatch.setitem(sys.modules, "pynq", module)

    def _overlay(self, bitfile_name):
        if bitfile_name != self._bitstream:
            raise OSError(f"Bitstream file {bitfile_name} does not exist.")
        self._loaded = True
        return _Overlay(self.cells)

    def _mmio(self, base_addr, length=4):
        assert (base_addr, length) == (_REGISTERS, _BYTES)
        return _Mmio(self)

    def _allocate(self, shape, dtype="u4"):
        if not self._loaded:
            raise RuntimeError("Overlay is not downloaded")
        count, = shape
        if count > SIZE:
            raise RuntimeError("BO allocation failed: Cannot allocate memory")
        assert dtype == "u1"
        array = self._cpu[:count].view(_Array)
        array.board, array.device_address = self, ADDRESS
        return array

    def synchronize(self, kind, address, size):
        """Copy bytes between the CPU and the core."""
        if self._coherent:
            return
        source, target = ((self._cpu, self._device) if kind == "flush"
                          else (self._device, self._cpu))
        place = slice(address - ADDRESS, address - ADDRESS + size)
        target[place] = source[place]
        self.copied[kind] += size

    @contextmanager
    def running(self):
        """Run the core while the event loop has nothing else to do."""
        with SimulatedCore(build_axi(CONFIG), [
                ChannelMemory(memoryview(self._device), ADDRESS)] * CHANNELS) as self.core:
            clock = asyncio.get_running_loop().create_task(self._run())
            try:
                yield
            finally:
                clock.cancel()

    async def _run(self):
        while self.core.cycles:
            self.core.wait(_STEP)
            await asyncio.sleep(0)


class _Overlay:
    def __init__(self, cells):
        self.ip_dict = cells


class _Mmio:
    def __init__(self, board):
        self._board = board

    def read(self, offset=0, length=4, word_order="little"):
        if offset % 4:
            raise MemoryError("Unaligned read: offset must be multiple of 4.")
        core = self._board.core
        return core.read(offset) if core else self._board.content.get(offset, 0)

    def write(self, offset, data):
        if offset % 4:
            raise MemoryError("Unaligned write: offset must be multiple of 4.")
        if type(data) is not int:
            raise ValueError("Data type must be int or bytes.")
        self._board.core.write(offset, data)


class _Array(np.ndarray):
    def __array_finalize__(self, whole):
        self.board = getattr(whole, "board", None)
        if self.board:
            places = [each.__array_interface__["data"][0] for each in (self, whole)]
            self.device_address = whole.device_address + places[0] - places[1]

    def flush(self):
        self.board.synchronize("flush", self.device_address, self.nbytes)

    def invalidate(self):
        self.board.synchronize("invalidate", self.device_address, self.nbytes)

    def freebuffer(self):
        self.board.freed += 1
