"""The driver on files that stand for UIO devices, buffers of u-dma-buf and PCIe cards."""

import asyncio
import re
from contextlib import ExitStack, closing

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.board.axi_bus import LEAST_BYTES
from tritstream.host.board.linux import open_pcie, open_uio
from tritstream.host.board.mapped import MappedWindow, write_attribute
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.errors import DeviceError, TransportClosed
from tritstream.host.open_device import open_device
from tritstream.hw.axi.registers import MAGIC

from support.axi_linux import ADDRESS, CARD, CHANNELS, SIZE, Machine
from support.host_cases import matrix_of, vectors

MATRIX, X = matrix_of(700, 256, 3), vectors(2, 256)

#: A simulated core is slow, and the machine may be busy.
SECONDS = 1000


@pytest.fixture
def machine_of(tmp_path):
    """Function that makes a machine."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(closing(Machine(tmp_path, **options)))


@pytest.fixture
def machine(machine_of):
    return machine_of()


async def products(transports):
    async with DeviceGroup([Device(transport) for transport in transports]) as device:
        assert len(device.devices) == CHANNELS
        prepared = await device.prepare(MATRIX)
        found = [await device.gemv(prepared, x) for x in X]
        assert not any(stats.retries for _, stats in found)
        return [sums for sums, _ in found]


def check(found):
    for sums, x in zip(found, X, strict=True):
        np.testing.assert_array_equal(sums, gemv(MATRIX, x))


def use_uio(machine, monkeypatch, device="uio0", **options):
    async def work():
        with machine.running(monkeypatch):
            return await products(open_uio(device, "udmabuf0", timeout=SECONDS, root=machine.root,
                                           windows=machine.window, **options))
    return asyncio.run(work())


@pytest.mark.parametrize("coherent", [False, True])
def test_products_behind_a_uio_device(machine_of, monkeypatch, coherent):
    """The caches of the CPU hold what the core does not see, or they are coherent."""
    machine = machine_of(coherent=coherent)
    check(use_uio(machine, monkeypatch))
    assert machine.occurred > 0
    assert all(bool(size) != coherent for size in machine.copied.values())


@pytest.mark.parametrize("options", [{"interrupt": False}, {}])
def test_products_without_interrupts(machine_of, monkeypatch, options):
    """The driver polls, because it was told so, or because interrupts get lost."""
    machine = machine_of(interrupts=False)
    check(use_uio(machine, monkeypatch, "tritstream", **options))


@pytest.mark.parametrize("on_card", [False, True])
def test_products_on_a_card(machine, monkeypatch, on_card):
    """Memory is in the computer, or on the card behind a BAR."""
    async def work():
        with machine.running(monkeypatch, on_card):
            options = {"memory": 2, "address": ADDRESS} if on_card else {"buffer": "udmabuf0"}
            return await products(open_pcie(CARD, timeout=SECONDS, root=machine.root,
                                            windows=machine.window, **options))

    check(asyncio.run(work()))
    config = (machine.root / f"sys/bus/pci/devices/{CARD}/config").read_bytes()
    assert config == b"\0\0\0\0\6" + bytes(59)      # memory space and bus master


def test_a_missing_synchronization_is_noticed(machine, monkeypatch):
    """The stand-in is not coherent: without copies, the core does not see any request."""
    machine._synchronize = lambda path, text: None
    with pytest.raises(DeviceError, match="IDENTIFY: gave up after 4 tries"):
        use_uio(machine, monkeypatch)


def test_registers_in_a_mapping(tmp_path):
    path = tmp_path / "registers"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as opened:
        window = MappedWindow(opened.fileno(), 4096)
    window.write(8, 0x89ABCDEF)
    assert path.read_bytes() == bytes(8) + b"\xEF\xCD\xAB\x89" + bytes(4084)
    assert window.read(8) == 0x89ABCDEF and window.read(4) == 0
    window.close()
    with pytest.raises(IndexError):
        window.read(8)


def test_files_of_sysfs_are_written_at_once(tmp_path):
    path = tmp_path / "sync_for_cpu"
    path.touch()
    write_attribute(path, "0x0000100000000041")
    assert path.read_text() == "0x0000100000000041"


class Registers:
    """Registers that have a content and no effect."""

    def __init__(self, content):
        self._content, self.closed = content, False

    def read(self, offset):
        return self._content.get(offset, 0)

    def close(self):
        self.closed = True


def refused(machine, *arguments, content=None, opened=open_uio, **options):
    """The error when a core is opened, whose registers are closed then."""
    registers = Registers({0: MAGIC, 4: CHANNELS} if content is None else content)
    with pytest.raises(TransportClosed) as error:
        opened(*arguments, root=machine.root, windows=lambda *_: registers, **options)
    return str(error.value)


@pytest.mark.parametrize(("content", "message"), [
    ({0: 0xFFFF_FFFF}, "nothing answers at the address of the registers; load the design into the "
                       "FPGA, and check the address"),
    ({0: 0x1234}, "register 0 is 0x00001234 instead of 0x31585354: no tritstream_axi of this "
                  "version has these registers"),
    ({0: MAGIC}, "reports 0 channels where 1 to 32 are possible"),
    ({0: MAGIC, 4: 33}, "reports 33 channels where 1 to 32 are possible"),
    ({0: MAGIC, 4: 16}, "maps 8192 bytes; the registers of 16 channels take 17408"),
])
def test_another_core(machine, content, message):
    assert refused(machine, "uio0", "udmabuf0", content=content) == (
        f"uio0 with udmabuf0: {message}")


def test_devices_that_are_missing(machine):
    assert refused(machine, "uio3", "udmabuf0") == (
        "uio3: no such UIO device; there are uio0 (tritstream)")
    assert refused(machine, "uio0", "udmabuf7") == (
        "udmabuf7: No such file or directory; load the kernel module u-dma-buf with such a "
        "buffer: docs/axi.md")
    assert refused(machine, "0000:04:00.0", "udmabuf0", opened=open_pcie) == (
        "PCIe card 0000:04:00.0: No such file or directory; `lspci -D` lists the cards")
    assert refused(machine, CARD, opened=open_pcie, memory=4) == (
        f"PCIe card {CARD}, resource4: No such file or directory; check the number of the BAR")
    (machine.root / "sys/class/uio/uio0/maps/map0/size").unlink()
    assert refused(machine, "uio0", "udmabuf0") == (
        "uio0: No such file or directory; bind the core to the driver uio_pdrv_genirq: docs/axi.md")
    (machine.root / "sys/class/uio/uio0/name").unlink()
    (machine.root / "sys/class/uio/uio0").rename(machine.root / "sys/class/uio/other")
    assert refused(machine, "uio0", "udmabuf0") == (
        "uio0: no such UIO device; there is none, load the design and uio_pdrv_genirq")


def test_devices_that_are_denied(machine, monkeypatch):
    def denied(path, flags):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("tritstream.host.board.linux.os.open", denied)
    says = "permission denied; run as root, or give this user access by a udev rule"
    assert refused(machine, "uio0", "udmabuf0") == f"uio0: {says}"
    assert refused(machine, CARD, "udmabuf0", opened=open_pcie) == (
        f"PCIe card {CARD}, resource0: {says}")


def test_memory_that_is_too_small(machine):
    (machine.root / "sys/class/u-dma-buf/udmabuf0/size").write_text("1048576")
    assert refused(machine, "uio0", "udmabuf0") == (
        f"uio0 with udmabuf0: has 1048576 bytes of memory; 4 channels need at least "
        f"{4 * LEAST_BYTES}, and more to hold matrices")
    (machine.root / "sys/class/uio/uio0/maps/map0/size").write_text("0x400")
    assert refused(machine, "uio0", "udmabuf0") == (
        "uio0 with udmabuf0: maps 1024 bytes; the registers of a core take at least 2048")


def test_a_buffer_that_is_too_large_for_its_commands(machine):
    (machine.root / "sys/class/u-dma-buf/udmabuf0/size").write_text(str(SIZE + (1 << 32)))
    assert refused(machine, "uio0", "udmabuf0") == (
        f"udmabuf0: has {SIZE + (1 << 32)} bytes, and caches can be synchronized in buffers up to "
        f"{1 << 32} bytes; give a smaller one")


@pytest.mark.parametrize(("spec", "message"), [
    ("uio:uio0", "uio:uio0: give buffer=NAME, a buffer of u-dma-buf"),
    ("uio:uio0,buffers=a", "uio:uio0,buffers=a: no option 'buffers'; there are buffer, interrupt, "
                           "timeout"),
    ("pcie:0000:03:00.0", "pcie:0000:03:00.0: give buffer=NAME or memory=BAR"),
    ("pcie:0000:03:00.0,buffer=a,memory=2", "pcie:0000:03:00.0: give buffer=NAME or memory=BAR"),
    ("pcie:0000:03:00.0,memory=2,address=x", "pcie:0000:03:00.0,memory=2,address=x: address must "
                                             "be a number such as 0x80000000, not 'x'"),
])
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        open_device(spec)
