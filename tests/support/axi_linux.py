"""Files that stand for the devices of Linux, in front of a simulated memory-mapped core.

Accesses to registers go to the simulation, because a file has no side effects. Memory is a file. An
interrupt passes a terminal, which can be opened by a path, read, written and polled like a UIO
device.
"""

import asyncio
import mmap
import os
import pty
import tty
from contextlib import contextmanager, suppress

from tritstream.host.board import mapped
from tritstream.host.board.simulated import SimulatedWindow
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.registers import BANK
from tritstream.hw.config import DeviceConfig
from tritstream.sim.axi_build import build_axi
from tritstream.sim.axi_core import ChannelMemory, SimulatedCore

__all__ = ["ADDRESS", "CARD", "CHANNELS", "CONFIG", "SIZE", "Machine"]

#: The core of :data:`support.axi_cases.CORE`.
CHANNELS = 4
CONFIG = AxiConfig(DeviceConfig(8, 1, 1024, build_id=None), CHANNELS)
#: Memory of all channels together, and its address on the bus.
SIZE, ADDRESS = 1 << 23, 0x8_7000_0000
CARD = "0000:03:00.0"
#: Cycles simulated at a time.
_STEP = 500


class Machine:
    """A computer with a core that is a UIO device and a PCIe card.

    Parameters
    ----------
    root : Path
        Root of its file system.
    coherent : bool
        Whether the core sees the caches. If not, its memory is another one than that of the CPU,
        and only a synchronization copies bytes.
    interrupts : bool
        Whether an interrupt of the core arrives.

    Members
    -------
    occurred : int
        Interrupts so far.
    copied : dict
        Bytes that were copied by each kind of synchronization.
    """

    def __init__(self, root, coherent=False, interrupts=True):
        self.root, self._interrupts, self._coherent = root, interrupts, coherent
        self.copied = {"sync_for_device": 0, "sync_for_cpu": 0}
        self.occurred, self._unmasked = 0, False
        self._uio, self._buffer, self._pci = (
            root / "sys/class/uio/uio0", root / "sys/class/u-dma-buf/udmabuf0",
            root / f"sys/bus/pci/devices/{CARD}")
        for folder in (self._uio / "maps/map0", self._buffer, self._pci, root / "dev"):
            folder.mkdir(parents=True)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._make_files()
        self.cpu = self._map(root / "dev/udmabuf0")
        self._device = self.cpu if coherent else mmap.mmap(-1, SIZE)
        self.core = None

    def _make_files(self):
        texts = {self._uio / "name": "tritstream", self._buffer / "size": SIZE,
                 self._uio / "maps/map0/size": f"{BANK * 8:#018x}",
                 self._buffer / "phys_addr": f"{ADDRESS:#018x}",
                 self._buffer / "dma_coherent": int(self._coherent)}
        for path, text in texts.items():
            path.write_text(f"{text}\n")
        (self.root / "dev/uio0").symlink_to(os.ttyname(self._slave))
        (self.root / "dev/udmabuf0").write_bytes(bytes(SIZE))
        (self._pci / "config").write_bytes(bytes(64))
        (self._pci / "resource0").write_bytes(bytes(1 << 16))
        (self._pci / "resource2").write_bytes(bytes(SIZE))

    @staticmethod
    def _map(path):
        with path.open("r+b") as opened:
            return mmap.mmap(opened.fileno(), SIZE)

    def window(self, file, size):
        """Registers of the core: argument ``windows`` of the driver."""
        os.fstat(file)
        return SimulatedWindow(self.core)

    def close(self):
        """Close the terminal."""
        os.close(self._master)
        os.close(self._slave)

    @contextmanager
    def running(self, monkeypatch, on_card=False):
        """Run the core while the event loop has nothing else to do."""
        memory = self._map(self._pci / "resource2") if on_card else self._device
        monkeypatch.setattr(mapped, "write_attribute", self._synchronize)
        with SimulatedCore(build_axi(CONFIG), [
                ChannelMemory(memoryview(memory), ADDRESS)] * CHANNELS) as self.core:
            clock = asyncio.get_running_loop().create_task(self._run())
            try:
                yield
            finally:
                clock.cancel()

    async def _run(self):
        while self.core.cycles:
            requested = self.core.wait(_STEP)
            with suppress(BlockingIOError):
                while (command := os.read(self._master, 4)):
                    assert command == b"\1\0\0\0"
                    self._unmasked = True
            if requested and self._unmasked and self._interrupts:
                self.occurred, self._unmasked = self.occurred + 1, False
                os.write(self._master, self.occurred.to_bytes(4, "little"))
            await asyncio.sleep(0)

    def _synchronize(self, path, text):
        """Do what u-dma-buf does when one of its files is written."""
        command = int(text, 16)
        first, size = command >> 32, command & 0xFFFF_FFF0
        assert path.parent == self._buffer and command & 0xD == 1
        assert first + size <= SIZE and not self._coherent
        source, target = ((self.cpu, self._device) if path.name == "sync_for_device"
                          else (self._device, self.cpu))
        target[first:first + size] = source[first:first + size]
        self.copied[path.name] += size
