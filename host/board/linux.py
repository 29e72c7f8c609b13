"""Memory-mapped cores on Linux: ``uio:uio0,buffer=udmabuf0`` and ``pcie:0000:03:00.0,...``."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tritstream.host.board.axi_bus import LEAST_BYTES, AxiBus
from tritstream.host.board.core import Buffer, Core, Waiter, Window
from tritstream.host.board.mapped import (
    BarBuffer,
    MappedWindow,
    UdmaBuffer,
    UioWaiter,
    attribute,
    opening,
)
from tritstream.host.board.transport import BoardTransport
from tritstream.host.errors import TransportClosed
from tritstream.hw.axi.config import PAGE
from tritstream.hw.axi.registers import BANK

__all__ = ["TIMEOUT", "open_channels", "open_pcie", "open_uio"]

_UIO, _PCI = Path("sys/class/uio"), Path("sys/bus/pci/devices")
#: Seconds of silence after which the driver retries. A register shows when a channel is idle.
TIMEOUT = 5.0
#: Place of the command register of PCI, and its bits: respond to accesses, and read memory.
_COMMAND, _MEMORY, _MASTER = 4, 2, 4

#: Makes the registers from a file descriptor and the bytes of the mapping.
_Windows = Callable[[int, int], Window]


def open_uio(
    device: str, buffer: str, interrupt: bool = True, timeout: float = TIMEOUT,
    root: Path = Path("/"), windows: _Windows = MappedWindow,
) -> list[BoardTransport]:
    """Open a core behind a UIO device; return the transport to each channel.

    Parameters
    ----------
    device : str
        UIO device such as ``uio0``, or the name of one, as in ``/sys/class/uio/uio0/name``.
    buffer : str
        Buffer of u-dma-buf, whose memory the channels share in equal parts.
    interrupt : bool
        Wait for the interrupt of the device. Otherwise the driver polls.
    timeout : float
        Seconds of silence after which the driver retries.
    root : Path
        Root of the file system.
    windows : callable
        Makes the registers; for tests.

    Raises :class:`.TransportClosed`, which names what is missing, denied or of another kind.
    """
    folder = _uio_folder(device, root)
    name = folder.name
    with ExitStack() as stack:
        with opening(name, "bind the core to the driver uio_pdrv_genirq: docs/axi.md"):
            size = int(attribute(folder / "maps/map0/size"), 16)
            file = os.open(root / "dev" / name, os.O_RDWR)
            waiter = stack.enter_context(closing(UioWaiter(file)))
            window = stack.enter_context(closing(windows(file, size)))
        memory = stack.enter_context(closing(UdmaBuffer(buffer, root)))
        transports = open_channels(window, size, waiter if interrupt else _Quiet(waiter), memory,
                                   f"{name} with {buffer}", timeout)
        stack.pop_all()
    return transports


def open_pcie(
    device: str, buffer: str | None = None, memory: int | None = None, address: int = 0,
    bar: int = 0, timeout: float = TIMEOUT, root: Path = Path("/"),
    windows: _Windows = MappedWindow,
) -> list[BoardTransport]:
    """Open a core on a PCIe card; return the transport to each channel. The driver polls.

    Parameters
    ----------
    device : str
        Address of the card, such as ``0000:03:00.0``.
    buffer : str, optional
        Buffer of u-dma-buf in the memory of this computer, which the card reads.
    memory, address : int
        In place of ``buffer``: BAR behind which the card has memory, and the address of its first
        byte on the core's bus.
    bar : int
        BAR of the registers.
    timeout, root, windows
        As for :func:`open_uio`.

    Raises :class:`.TransportClosed`, which names what is missing, denied or of another kind, and
    :class:`ValueError` unless one of ``buffer`` and ``memory`` is given.
    """
    if (buffer is None) == (memory is None):
        raise ValueError(f"pcie:{device}: give buffer=NAME or memory=BAR")
    folder = root / _PCI / device
    with ExitStack() as stack:
        with opening(f"PCIe card {device}", "`lspci -D` lists the cards"):
            _enable(folder / "config")
        window, size = _registers(folder, f"resource{bar}", windows)
        stack.enter_context(closing(window))
        data: Buffer = UdmaBuffer(buffer, root) if buffer is not None else (
            _bar_buffer(folder, f"resource{memory}", address))
        stack.enter_context(closing(data))
        transports = open_channels(window, size, Waiter(), data, f"PCIe card {device}", timeout)
        stack.pop_all()
    return transports


class _Quiet(Waiter):
    """Polls, although there is a device with an interrupt, which is closed with this."""

    def __init__(self, device: Waiter):
        self._device = device

    def close(self) -> None:
        """Close the device."""
        self._device.close()


def _uio_folder(device: str, root: Path) -> Path:
    """Return the folder of a UIO device, by its number or by its name."""
    if (found := root / _UIO / device).exists():
        return found
    names = {path.parent.name: attribute(path)
             for path in sorted((root / _UIO).glob("*/name"))}
    if same := [number for number, name in names.items() if name == device]:
        return root / _UIO / same[0]
    there = ", ".join(f"{number} ({name})" for number, name in names.items())
    raise TransportClosed(f"{device}: no such UIO device; " + (
        f"there are {there}" if there else "there is none, load the design and uio_pdrv_genirq"))


def _enable(config: Path) -> None:
    """Let a card respond to accesses, and read and write the memory of the computer."""
    with config.open("r+b", buffering=0) as opened:
        opened.seek(_COMMAND)
        command = int.from_bytes(opened.read(2), "little")
        opened.seek(_COMMAND)
        opened.write((command | _MEMORY | _MASTER).to_bytes(2, "little"))


@contextmanager
def _resource(folder: Path, name: str) -> Iterator[tuple[int, int]]:
    """Open a BAR; yield its file descriptor and size."""
    with opening(f"PCIe card {folder.name}, {name}", "check the number of the BAR"):
        file = os.open(folder / name, os.O_RDWR)
        try:
            yield file, os.fstat(file).st_size
        finally:
            os.close(file)


def _registers(folder: Path, name: str, windows: _Windows) -> tuple[Window, int]:
    """Return the registers behind a BAR, and its size."""
    with _resource(folder, name) as (file, size):
        return windows(file, size), size


def _bar_buffer(folder: Path, name: str, address: int) -> BarBuffer:
    """Return the memory behind a BAR; writes to it are combined if the kernel offers that."""
    combined = f"{name}_wc"
    with _resource(folder, combined if (folder / combined).exists() else name) as place:
        return BarBuffer(*place, address)


def open_channels(window: Window, size: int, waiter: Waiter, buffer: Buffer, name: str,
                  timeout: float) -> list[BoardTransport]:
    """Open the core behind ``window``, registers of ``size`` bytes; return its transports.

    The channels get equal parts of ``buffer``. ``name`` is for messages, ``timeout`` in seconds.

    Raises :class:`.TransportClosed` for another core, or if registers or memory are too small.
    """
    if size < 2 * BANK:
        raise TransportClosed(f"{name}: maps {size} bytes; the registers of a core take at least "
                              f"{2 * BANK}")
    core = Core(window, waiter, [buffer], name)
    if size < (needed := BANK * (1 + core.channels)):
        raise TransportClosed(f"{name}: maps {size} bytes; the registers of {core.channels} "
                              f"channels take {needed}")
    part = len(buffer.data) // core.channels // PAGE * PAGE
    if part < LEAST_BYTES:
        raise TransportClosed(f"{name}: has {len(buffer.data)} bytes of memory; {core.channels} "
                              f"channels need at least {core.channels * LEAST_BYTES}, and more to "
                              "hold matrices")
    return [BoardTransport(AxiBus(core, channel, buffer, channel * part, part), timeout)
            for channel in range(core.channels)]
