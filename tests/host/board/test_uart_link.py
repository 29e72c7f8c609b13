"""A board with memory on a serial port, of which a pseudo-terminal is the far end."""

import os
import re
import time

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.board.matrix_store import StoredPart
from tritstream.host.board.uart_link import UartLink
from tritstream.host.device import Device
from tritstream.host.errors import BadAnswer, TransportClosed, TransportTimeout
from tritstream.host.layout.prepare import prepare
from tritstream.host.open_device import open_device
from tritstream.hw.soc.registers import MAGIC, MEMORY, register

from support.serial_board import Board
from support.soc_cases import MATRIX, X, run, simulated
from support.uartbone import Bridge

MAGIC_INDEX = register("magic") // 4


class Words:
    """A bus on which every word can be written. ``deaf`` addresses ignore that."""

    def __init__(self):
        self.words, self.deaf = {MAGIC_INDEX: MAGIC}, set()
        self.bridge = Bridge(self._write, lambda index: self.words.get(index, 0))

    def _write(self, index, value):
        if index not in self.deaf:
            self.words[index] = value


@pytest.fixture
def far():
    board = Board()
    yield board
    if board.master is not None:
        board.unplug()


@pytest.fixture
def bus():
    return Words()


def use(far, work, baud=3_000_000, **options):
    """Return the result of a coroutine function of a link, and the link."""
    link = UartLink(far.port, baud, **options)

    async def within():
        try:
            return await work(link)
        finally:
            link.close()

    return run(within()), link


def numbers(count):
    return np.random.default_rng(0).integers(0, 1 << 32, count, dtype="<u4").tobytes()


@pytest.mark.parametrize("size", [4, 1020, 1024, 40_000])
def test_memory(far, bus, size):
    """More bytes than a command holds, and than are written between acknowledgements."""
    data = numbers(size // 4)

    async def work(link):
        await link.write(MEMORY, data)
        return await link.read(MEMORY, size)

    far.answer(bus.bridge.feed)
    found, link = use(far, work)
    assert found == data
    assert link.repeated == 0


def test_a_slow_line_gets_short_commands(far, bus):
    """The bridge gives up a command that takes 0.1 s."""
    async def work(link):
        await link.write(MEMORY, numbers(200))
        return await link.read(MEMORY, 800)

    longest = []
    far.answer(lambda data: longest.append(len(data)) or bus.bridge.feed(data))
    found, link = use(far, work, baud=9600)
    assert found == numbers(200)
    assert link.round_trips == 1 + -(-200 // ((9600 // 200 - 6) // 4))


def test_registers(far, bus):
    bus.words[register("taken") // 4] = 9
    bus.words[register("tail") // 4] = 5

    async def work(link):
        tail = await link.put("address", 7, 8, 9 - (1 << 32), then="tail")
        return tail, await link.get("length", "magic", "index", "taken")

    far.answer(bus.bridge.feed)
    (tail, found), link = use(far, work)
    assert (tail, found) == (5, [8, MAGIC, 9, 9])
    assert link.round_trips == 2


def test_a_register_with_another_value_is_an_error(far, bus):
    bus.deaf.add(register("length") // 4)
    far.answer(bus.bridge.feed)
    with pytest.raises(BadAnswer, match=f"^{far.port}: the board has other values than were written"
                                        " to its register 'address'; check the line$"):
        use(far, lambda link: link.put("address", 7, 8, 9, then="tail"))


def lose(data):
    return data[:-1]


def add(data):
    return b"\x55" + data


@pytest.mark.parametrize("damage", [lose, add])
@pytest.mark.parametrize("way", ["to the board", "from the board"])
def test_bytes_that_are_lost_or_added(far, bus, damage, way):
    """What was written is right in the end, and read right."""
    at, data = iter(range(1000)), numbers(60)

    def respond(received):
        broken = next(at) in (0, 2)
        out = bus.bridge.feed(damage(received) if broken and way == "to the board" else received)
        return damage(out) if broken and out and way == "from the board" else out

    async def work(link):
        await link.write(MEMORY, data)
        return await link.read(MEMORY, len(data))

    far.answer(respond)
    found, link = use(far, work)
    assert found == data
    assert link.repeated


def test_a_late_response_is_not_taken_for_the_next(far, bus):
    late = []

    def respond(received):
        out = bus.bridge.feed(received)
        late.append(out)
        return b"" if len(late) == 1 else b"".join(late[:-1]) + out if len(late) == 2 else out

    bus.words[MEMORY // 4] = 1
    far.answer(respond)
    found, link = use(far, lambda link: link.read(MEMORY, 4))
    assert found == (1).to_bytes(4, "little")
    assert link.repeated == 2               # the second time, more came than was asked for


def test_no_board(far):
    with pytest.raises(TransportTimeout, match=f"^{far.port}: no board answers with UARTBone, tried"
                                               r" 2 times in 0\.3 s$"):
        use(far, lambda link: link.get("magic"), timeout=0.15, tries=2)


def test_more_bytes_than_were_asked_for(far):
    far.answer(lambda data: bytes(2000))
    with pytest.raises(TransportTimeout, match="no board answers with UARTBone, tried 2 times"):
        use(far, lambda link: link.get("magic"), timeout=0.15, tries=2)


def test_late_bytes_before_the_first_command(far, bus):
    async def work(link):
        os.write(far.master, bytes(100))
        return await link.get("magic")

    far.answer(bus.bridge.feed)
    found, link = use(far, work)
    assert (found, link.repeated) == ([MAGIC], 0)


def test_a_line_that_is_never_silent(far):
    async def work(link):
        link._port.wait = lambda to_write, seconds: (True, to_write)
        link._port.read = lambda: b"?"
        return await link.get("magic")

    with pytest.raises(TransportTimeout, match=f"^{far.port}: the line is never silent; check that "
                                               "the board was built for this baud rate$"):
        use(far, work, timeout=0.11)


def test_an_unplugged_port(far):
    async def work(link):
        far.unplug()
        return await link.get("magic")

    with pytest.raises(TransportClosed, match=f"^{far.port}: the port is gone "):
        use(far, work, tries=2)


@pytest.mark.parametrize("options, message", [
    ({"baud": 1999}, "baud must be an integer of 2000 or more, not 1999"),
    ({"baud": 3e6}, "baud must be an integer of 2000 or more, not 3000000.0"),
    ({"baud": 9600, "timeout": 0.1}, "the time until a command is repeated must be above 0.1 s, "
                                     "and tries above 0"),
    ({"baud": 9600, "tries": 0}, "the time until a command is repeated must be above 0.1 s, and "
                                 "tries above 0"),
])
def test_wrong_numbers(options, message):
    with pytest.raises(ValueError, match=f"^/dev/no: {re.escape(message)}$"):
        UartLink("/dev/no", **options)


@pytest.mark.parametrize("spec, error, start", [
    ("uartbone:/dev/no", TransportClosed, "/dev/no: cannot open it: no such port; "),
    ("uartbone", ValueError, "no device 'uartbone'; there are "),
    ("uartbone:/dev/no,window=2", ValueError,
     "uartbone:/dev/no,window=2: no option 'window'; there are baud, timeout, repeat, tries"),
    ("uartbone:/dev/no,repeat=0", ValueError,
     "/dev/no: the time until a command is repeated must be above 0.1 s"),
])
def test_wrong_specs(spec, error, start):
    with pytest.raises(error, match=f"^{re.escape(start)}"):
        open_device(spec)


class OnBoard:
    """The bridge in front of a simulated board, on which cycles pass with each piece of bytes.

    For the bridge, only the time passes in which it waits for bytes, because simulating is slow.
    """

    def __init__(self, board):
        self._board = board
        self._waited, self._since = 0.0, time.monotonic()
        self._bridge = Bridge(self._write, self._read, lambda: self._waited)

    def feed(self, data):
        self._waited += time.monotonic() - self._since
        self._board.run(2000)
        out = self._bridge.feed(data)
        self._since = time.monotonic()
        return out

    def _write(self, index, value):
        self._board.write(4 * index, np.array([value]))

    def _read(self, index):
        return int(self._board.read(4 * index, 1)[0])


@pytest.fixture(scope="module")
def board():
    with simulated() as board:
        yield board


def opened(far, **options):
    """A device at the far end. A simulated board may take long to respond."""
    more = "".join(f",{name}={value}" for name, value in ({"repeat": 60} | options).items())
    device = open_device(f"uartbone:{far.port},timeout=300{more}")
    assert isinstance(device, Device)
    return device


async def product(device, name=""):
    async with device:
        prepared = await device.prepare(MATRIX, name)
        return await device.gemv(prepared, X)


def test_a_product_on_a_board(far, board):
    far.answer(OnBoard(board).feed)
    sums, stats = run(product(opened(far)))
    np.testing.assert_array_equal(sums, gemv(MATRIX, X))
    assert stats.retries == 0


def test_a_product_over_a_bad_line(far, board):
    """A byte in either direction is lost now and then, or changed among data.

    No address is changed, because the memory controller has registers that stop it.
    """
    bridge, coin, faults = OnBoard(board), np.random.default_rng(3), []

    def damaged(data):
        if not data or coin.random() > 0.15 or len(faults) == 4:
            return data
        at, flip = int(coin.integers(len(data))), len(data) > 100 and coin.random() < 0.5
        faults.append(at)
        changed = bytes([data[at] ^ 1 << int(coin.integers(8))]) if flip and at >= 6 else b""
        return data[:at] + changed + data[at + 1:]

    far.answer(lambda data: damaged(bridge.feed(damaged(data))))
    device = opened(far, repeat=0.5, tries=100)
    while len(faults) < 4:
        sums, _ = run(product(device))
        np.testing.assert_array_equal(sums, gemv(MATRIX, X))
        device = opened(far, repeat=0.5, tries=100)
    run(device.close())


def test_stored_words_stay_on_the_board(far, board):
    async def twice(device):
        async with device:
            info = await device.info()
            await device.store.erase()
            await device.store.add(prepare(MATRIX, info.lanes, info.max_k, "m", None), MATRIX)
            await device.store.publish()
            prepared = await device.prepare(MATRIX, "m")
            assert isinstance(prepared.parts[0], StoredPart)
            return [(await device.gemv(prepared, x))[0] for x in (X, X[::-1].copy())]

    far.answer(OnBoard(board).feed)
    for found, x in zip(run(twice(opened(far))), (X, X[::-1]), strict=True):
        np.testing.assert_array_equal(found, gemv(MATRIX, x))
