"""Memory-mapped cores under PYNQ: ``pynq:kv260.bit,memory=512``.

Source: github.com/Xilinx/PYNQ, versions 3.0.1 and 3.1, files ``pynq/overlay.py``, ``pynq/mmio.py``
and ``pynq/buffer.py``.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib import import_module
from typing import Any

from tritstream.host.board.core import Buffer, Waiter, Window
from tritstream.host.board.linux import TIMEOUT, open_channels
from tritstream.host.board.transport import BoardTransport
from tritstream.host.errors import TransportClosed
from tritstream.hw.axi.names import CORE

__all__ = ["PynqBuffer", "PynqWindow", "open_pynq"]

#: What PYNQ raises for a file, a board or a size that it cannot use.
_REFUSALS = (OSError, RuntimeError, ValueError, MemoryError)


def open_pynq(bitstream: str, ip: str | None = None, memory: int = 256,
              timeout: float = TIMEOUT) -> list[BoardTransport]:
    """Load a bitstream by PYNQ and open the core in it; return the transport to each channel.

    The driver polls. The memory is freed with the transports, so matrices do not stay in it.

    Parameters
    ----------
    bitstream : str
        File for ``pynq.Overlay``, with its ``.hwh`` file beside it.
    ip : str, optional
        Name of the core in the block design, if there are several.
    memory : int
        MB of 2^20 bytes that ``pynq.allocate`` reserves. The channels share them in equal parts.
    timeout : float
        Seconds of silence after which the driver retries.

    Raises :class:`.TransportClosed`, which names what is missing or refused, and
    :class:`ValueError` for a memory without a byte.
    """
    name = f"pynq:{bitstream}"
    if memory < 1:
        raise ValueError(f"{name}: memory must be at least 1 MB, not {memory}")
    pynq = _pynq(name)
    with ExitStack() as stack:
        with _asking(name, "loading the bitstream"):
            cells = pynq.Overlay(bitstream).ip_dict
        address, size = _registers(name, cells, ip)
        with _asking(name, "mapping the registers"):
            window = stack.enter_context(closing(PynqWindow(pynq.MMIO(address, size))))
        with _asking(name, f"allocating {memory} MB"):
            array = pynq.allocate(shape=(memory << 20,), dtype="u1")
        buffer = stack.enter_context(closing(PynqBuffer(array)))
        transports = open_channels(window, size, Waiter(), buffer, name, timeout)
        stack.pop_all()
    return transports


class PynqWindow(Window):
    """Registers behind ``pynq.MMIO``, which loads and stores 32 bits by one access.

    Parameters
    ----------
    mmio : pynq.MMIO
        Registers of a core.
    """

    def __init__(self, mmio: Any):
        self._mmio = mmio

    def read(self, offset: int) -> int:
        """Read a register: :meth:`.Window.read`."""
        return int(self._mmio.read(offset))

    def write(self, offset: int, value: int) -> None:
        """Write a register: :meth:`.Window.write`."""
        self._mmio.write(offset, value)

    def close(self) -> None:
        """Forget the registers. PYNQ removes the mapping with its last user."""
        self._mmio = None


class PynqBuffer(Buffer):
    """Memory of ``pynq.allocate``, which is contiguous in physical memory.

    Every transfer synchronizes the bytes that it touches, by ``flush`` and ``invalidate`` of a
    slice. PYNQ does nothing there if the memory is coherent.

    Parameters
    ----------
    array : pynq.buffer.PynqBuffer
        Array of bytes; freed with the buffer.
    """

    def __init__(self, array: Any):
        self._array = array
        super().__init__(memoryview(array), int(array.device_address))

    def give(self, first: int, size: int) -> None:
        """Write caches back to memory: :meth:`.Buffer.give`."""
        if size:
            self._array[first:first + size].flush()

    def take(self, first: int, size: int) -> None:
        """Discard what caches hold: :meth:`.Buffer.take`."""
        if size:
            self._array[first:first + size].invalidate()

    def close(self) -> None:
        """Free the memory."""
        self.data.release()
        self._array.freebuffer()


def _pynq(name: str) -> Any:
    """Return the package, which is part of an image for a board and has no type hints."""
    try:
        return import_module("pynq")
    except ImportError as error:
        raise TransportClosed(f"{name}: PYNQ is not in this Python ({error}); install it here, or "
                              "use uio:") from None


@contextmanager
def _asking(name: str, step: str) -> Iterator[None]:
    """Turn what PYNQ raises into :class:`.TransportClosed`."""
    try:
        yield
    except _REFUSALS as error:
        raise TransportClosed(f"{name}: {step}: {error or type(error).__name__}") from None


def _registers(name: str, cells: dict[str, dict[str, Any]], ip: str | None) -> tuple[int, int]:
    """Return address and bytes of the registers of an IP, or of the only core in a design."""
    found = [about for cell, about in cells.items() if "phys_addr" in about and (
        cell == ip if ip else about["type"].split(":")[2:3] == [CORE.top])]
    if len(found) != 1:
        says = f"no IP {ip} with registers" if ip else f"{len(found)} IPs {CORE.top}; give ip=NAME"
        raise TransportClosed(f"{name}: has {says}; there are {', '.join(cells) or 'none'}")
    return found[0]["phys_addr"], found[0]["addr_range"]
