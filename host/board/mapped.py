"""Registers, interrupts and memory that Linux maps into a process."""

import asyncio
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tritstream.host.board.core import Buffer, Waiter, Window
from tritstream.host.errors import TransportClosed

__all__ = ["BarBuffer", "MappedWindow", "UdmaBuffer", "UioWaiter", "attribute", "opening",
           "write_attribute"]

#: Granularity in bytes in which caches are synchronized.
_LINE = 64
#: Bits of a command of u-dma-buf: do it, and direction 0, which is both.
_SYNC = 1
#: Largest buffer whose parts such a command can name.
_MAX_SYNC = 1 << 32


@contextmanager
def opening(what: str, advice: str) -> Iterator[None]:
    """Turn an :class:`OSError` into :class:`.TransportClosed` with the name and an advice."""
    try:
        yield
    except PermissionError:
        raise TransportClosed(f"{what}: permission denied; run as root, or give this user access "
                              "by a udev rule") from None
    except OSError as error:
        raise TransportClosed(f"{what}: {error.strerror or error}; {advice}") from None


def attribute(path: Path) -> str:
    """Return the text of a file of sysfs."""
    return path.read_text().strip()


def write_attribute(path: Path, text: str) -> None:
    """Write a file of sysfs, which acts before the call returns."""
    with path.open("wb", buffering=0) as opened:
        opened.write(text.encode())


class MappedWindow(Window):
    """Registers at the start of a mapping.

    NumPy loads and stores an aligned element of 32 bits by one access.

    Parameters
    ----------
    file : int
        File descriptor of a UIO device or of a PCIe resource; not needed afterwards.
    size : int
        Bytes of the mapping.
    """

    def __init__(self, file: int, size: int):
        self._map = mmap.mmap(file, size)
        self._words = np.frombuffer(self._map, np.uint32, size // 4)

    def read(self, offset: int) -> int:
        """Read a register: :meth:`.Window.read`."""
        return int(self._words[offset // 4])

    def write(self, offset: int, value: int) -> None:
        """Write a register: :meth:`.Window.write`."""
        self._words[offset // 4] = value

    def close(self) -> None:
        """Remove the mapping."""
        self._words = np.empty(0, np.uint32)
        self._map.close()


class UioWaiter(Waiter):
    """Waits for the interrupt of a UIO device.

    The kernel masks the interrupt when it occurs. Writing 1 as 32 bits unmasks it, and a read of 32
    bits waits for it.

    Parameters
    ----------
    file : int
        File descriptor of the device; closed with the waiter.
    """

    interrupts = True

    def __init__(self, file: int):
        self._file = file
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self, seconds: float) -> None:
        """Wait for an interrupt, or until a time has passed: :meth:`.Waiter.wait`."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            os.write(self._file, (1).to_bytes(4, "little"))
            loop.add_reader(self._file, self._occurred, loop)
        future = loop.create_future()
        self._waiting.append(future)
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            if future in self._waiting:
                self._waiting.remove(future)
                if not self._waiting:
                    loop.remove_reader(self._file)

    def close(self) -> None:
        """Close the device."""
        os.close(self._file)

    def _occurred(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake all that wait. The next wait unmasks the interrupt again."""
        os.read(self._file, 4)
        loop.remove_reader(self._file)
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class _Mapping(Buffer):
    """Buffer that is the mapping of a file."""

    def __init__(self, file: int, size: int, address: int):
        self._map = mmap.mmap(file, size)
        super().__init__(memoryview(self._map), address)

    def close(self) -> None:
        """Remove the mapping."""
        self.data.release()
        self._map.close()


class BarBuffer(_Mapping):
    """Memory of a card behind a BAR of PCIe. Caches of the CPU do not hold it."""


class UdmaBuffer(_Mapping):
    """Buffer of the kernel module u-dma-buf, which is contiguous in physical memory.

    It is mapped with caches. If the core does not see these, every transfer synchronizes the lines
    that it touches, by the files ``sync_for_device`` and ``sync_for_cpu``.

    Parameters
    ----------
    name : str
        Name of the buffer, such as ``udmabuf0``.
    root : Path
        Root of the file system.

    Raises :class:`.TransportClosed` if there is no such buffer.
    """

    def __init__(self, name: str, root: Path = Path("/")):
        self._folder = root / "sys/class/u-dma-buf" / name
        with opening(name, "load the kernel module u-dma-buf with such a buffer: docs/axi.md"):
            size = int(attribute(self._folder / "size"))
            address = int(attribute(self._folder / "phys_addr"), 16)
            coherent = self._folder / "dma_coherent"        # not on every architecture
            self._coherent = coherent.exists() and attribute(coherent) == "1"
            file = os.open(root / "dev" / name, os.O_RDWR)
        try:
            if size > _MAX_SYNC and not self._coherent:
                raise TransportClosed(f"{name}: has {size} bytes, and caches can be synchronized "
                                      f"in buffers up to {_MAX_SYNC} bytes; give a smaller one")
            super().__init__(file, size, address)
        finally:
            os.close(file)

    def give(self, first: int, size: int) -> None:
        """Write lines of caches back to memory: :meth:`.Buffer.give`."""
        self._synchronize("sync_for_device", first, size)

    def take(self, first: int, size: int) -> None:
        """Discard lines of caches: :meth:`.Buffer.take`."""
        self._synchronize("sync_for_cpu", first, size)

    def _synchronize(self, name: str, first: int, size: int) -> None:
        if self._coherent or not size:
            return
        start, end = first // _LINE * _LINE, -(-(first + size) // _LINE) * _LINE
        write_attribute(self._folder / name, f"0x{start:08X}{end - start | _SYNC:08X}")
