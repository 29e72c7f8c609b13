"""The AXI4-Stream ports of the IP core in simulation: handshakes and reset."""

from amaranth.sim import Simulator

from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.axi_stream import AxiStreamDevice
from tritstream.hw.protocol import Opcode

from support.frames import build_frame, split_frame

LANES = 4
IDENTIFY = [build_frame(64, Opcode.IDENTIFY, sequence)[low:low + LANES]
            for sequence in (1, 2) for low in range(0, 128, LANES)]


class Master:
    """Drives both ports of a core, one cycle at a time."""

    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut
        self.words, self.taken = [], []

    async def cycle(self, reset=1, ready=1):
        """One clock cycle. A port without a valid word has garbage on its data."""
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.aresetn, reset)
        ctx.set(dut.m_axis_tready, ready)
        ctx.set(dut.s_axis_tvalid, bool(self.words))
        word = self.words[0] if self.words else b"\xa5" * LANES
        ctx.set(dut.s_axis_tdata, int.from_bytes(word, "little"))
        given = ctx.get(dut.s_axis_tready) and self.words
        if not reset:
            assert not ctx.get(dut.s_axis_tready) and not ctx.get(dut.m_axis_tvalid)
        if ctx.get(dut.m_axis_tvalid) and ready:
            self.taken.append((ctx.get(dut.m_axis_tdata).to_bytes(LANES, "little"),
                               ctx.get(dut.m_axis_tlast)))
        for level in (1, 0):
            ctx.set(dut.aclk, level)
            await ctx.delay(5e-9)
        if given:
            self.words.pop(0)

    async def until(self, condition, **levels):
        for _ in range(500):
            if condition():
                return
            await self.cycle(**levels)
        raise AssertionError("nothing happens")

    def infos(self):
        """Sequence numbers of the INFOs so far; TLAST is set in their last words only."""
        data = iter(b"".join(word for word, _ in self.taken))
        count = sum(last for _, last in self.taken)
        found = [split_frame(lambda size: bytes(next(data) for _ in range(size)), LANES)
                 for _ in range(count)]
        assert not list(data)
        assert [last for _, last in self.taken] == count * [*[0] * 11, 1]
        assert all(opcode == Opcode.INFO for opcode, *_ in found)
        return [sequence for _, sequence, *_ in found]


def run(test):
    """Run a test with a master, once the core is out of reset."""
    dut = AxiStreamDevice(DeviceConfig(LANES, 1, 16))

    async def drive(ctx):
        master = Master(ctx, dut)
        master.words = list(IDENTIFY)
        for _ in range(3):
            await master.cycle(reset=0)
        assert master.words == IDENTIFY
        await test(master)

    simulator = Simulator(dut)
    simulator.add_testbench(drive)
    simulator.run()


def test_words_wait_and_are_not_lost():
    async def test(master):
        for _ in range(200):        # no response is taken, so that requests have to wait
            await master.cycle(ready=0)
        assert master.words and not master.taken
        await master.until(lambda: len(master.taken) == 24)
        for _ in range(100):        # garbage that is not valid is no request
            await master.cycle()
        assert master.infos() == [1, 2]
    run(test)


def test_an_idle_core_takes_nothing_from_the_first_cycle_of_a_reset_on():
    async def test(master):
        await master.until(lambda: len(master.taken) == 24)
        await master.cycle()
        assert master.ctx.get(master.dut.s_axis_tready)
        master.words = IDENTIFY[:32]
        for _ in range(2):
            await master.cycle(reset=0)
        assert master.words == IDENTIFY[:32]
        await master.until(lambda: len(master.taken) == 36)
        assert master.infos() == [1, 2, 1]
    run(test)


def test_a_reset_drops_requests_and_responses():
    async def test(master):
        ctx, dut = master.ctx, master.dut
        await master.until(lambda: ctx.get(dut.m_axis_tvalid), ready=0)
        # In the first cycle, too: the device itself is reset one cycle later.
        for _ in range(3):
            await master.cycle(reset=0)
        master.words = []
        for _ in range(200):
            await master.cycle()
        assert not master.taken
        master.words = IDENTIFY[32:]
        await master.until(lambda: len(master.taken) == 12)
        assert master.infos() == [2]
    run(test)
