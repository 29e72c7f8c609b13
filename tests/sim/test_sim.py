import gc

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritstream.host.protocol.frames import request
from tritstream.hw.config import DeviceConfig
from tritstream.hw.primitives.stream_buffer import StreamBuffer
from tritstream.hw.protocol import Opcode
from tritstream.hw.tools.export import device_verilog
from tritstream.sim import build, native
from tritstream.sim.build import BuildError, build_native, device_rtl
from tritstream.sim.harness import SimulationTimeout, simulate
from tritstream.sim.native import NativeDevice, SimulationIdle
from tritstream.sim.streams import coin, get, put

CONFIG = DeviceConfig(lanes=8)


@pytest.fixture
def device():
    with NativeDevice(build_native(CONFIG.lanes, device_rtl(CONFIG)).library) as native_device:
        yield native_device


def identify(sequence):
    return b"".join(bytes(part) for part in request(Opcode.IDENTIFY, sequence, 0, 0, b""))


def test_rtl_is_generated_once(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITSTREAM_CACHE", str(tmp_path))
    config = DeviceConfig(lanes=1, max_k=16)
    first = device_rtl(config)
    monkeypatch.setattr(build, "device_verilog", lambda _: pytest.fail("generated again"))
    assert device_rtl(config) == first
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == [".v"]


def test_rtl_does_not_depend_on_the_run():
    config = DeviceConfig(lanes=1, max_k=16)
    assert device_verilog(config) == device_verilog(config)


def test_library_is_compiled_once(monkeypatch):
    first = build_native(CONFIG.lanes, device_rtl(CONFIG))
    monkeypatch.setattr(build, "compile_model", lambda *_: pytest.fail("compiled again"))
    assert build_native(CONFIG.lanes, device_rtl(CONFIG)) == first
    assert "Verilator" in first.engine


def test_wrong_rtl_is_refused_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITSTREAM_CACHE", str(tmp_path))
    with pytest.raises(BuildError, match=r"^verilator_bin failed \(\d+\):\n(?s:.*)syntax error"):
        build_native(8, "module top(input [63:0] i__payload,; endmodule")
    assert not list(tmp_path.iterdir())


def test_rtl_of_another_device_is_refused():
    with pytest.raises(BuildError, match=r"^the Verilog is of a device with L = 8 lanes, not 2: "
                                         r"ask for 8 lanes$"):
        build_native(2, device_rtl(CONFIG))
    with pytest.raises(BuildError, match=r"^the Verilog has no input i__payload: it is no device "
                                         r"of `tritstream hw verilog --plain`$"):
        build_native(8, "module top(); endmodule")


def test_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"^g\+\+ is missing: install it \(apt install g\+\+\) "
                                         r"to simulate the device$"):
        build_native(8, device_rtl(CONFIG))


def test_responses_arrive_and_spans_report_when_words_were_taken(device):
    first, second = device.push(identify(1)), device.push(identify(2))
    assert not first.taken and first.first == -1
    answer = device.pull(24)
    assert answer[:4] == b"\x54\x33\x80\x01"
    assert first.taken
    device.pull(24 + 8 + 24)    # the rest of INFO, and the next header
    # 128 bytes each, a word at a time.
    assert first.last - first.first >= 15
    assert second.first > first.last


def test_a_pull_takes_all_requests_and_what_else_comes_is_ready(device):
    first, second = device.push(identify(1)), device.push(identify(2))
    answer = device.pull(1)
    assert first.taken and second.taken
    answer += device.ready()
    assert (answer[3], len(answer)) == (1, 56)
    assert device.ready() == b""
    assert device.pull(56)[3] == 2


def test_words_are_counted_at_the_pins(device):
    device.push(identify(1))
    device.pull(56)
    assert (device.words_in, device.words_out) == (16, 7)
    assert device.cycles > 16


def test_silence_is_an_error_and_keeps_received_bytes(device):
    device.push(identify(1))
    with pytest.raises(SimulationIdle, match=r"^the simulated device has been quiet for 20000 "
                                             r"cycles, after 56 of the expected response bytes$"):
        device.pull(64)
    assert len(device.pull(56)) == 56


def test_silence_ends_under_stalls_too(device):
    device.stall(1, 0.5, 0.5)
    with pytest.raises(SimulationIdle):
        device.pull(1)


def test_stalls_change_the_cycles_and_not_the_bytes(device):
    device.push(identify(1))
    free, cycles = device.pull(56), device.cycles
    device.stall(3, 0.5, 0.5)
    device.push(identify(1))
    assert device.pull(56) == free
    assert device.cycles - cycles > cycles
    with pytest.raises(ValueError, match=r"^Share of stalled cycles must be in \[0, 1\), not 1$"):
        device.stall(3, 1)


def test_reset_forgets_half_a_frame(device):
    device.push(identify(1)[:64])
    device.idle(100)
    device.reset()
    device.push(identify(2))
    assert device.pull(56)[3] == 2


@pytest.mark.parametrize(("size", "code"), [(8, 1), (64, 6)])
def test_half_a_frame_is_abandoned(device, size, code):
    device.push(identify(1)[:size])
    device.abandon()
    answer = device.pull(32)
    assert (answer[2], answer[4]) == (0xFF, code)
    device.abandon()        # nothing is under way
    device.push(identify(2))
    assert device.pull(56)[3] == 2


def test_an_answer_that_cannot_leave_is_not_abandoned(device):
    device.stall(1, sink=0.999999)
    device.push(identify(1))
    with pytest.raises(SimulationIdle, match=r"^the simulated device does not abandon its frame: "
                                             r"it takes no word, and has sent 0 words meanwhile$"):
        device.abandon()
    device.stall(1)
    assert device.pull(56)[3] == 1


def test_answers_without_end_are_an_error(device, monkeypatch):
    monkeypatch.setattr(device, "_advance", lambda *_: 7)
    with pytest.raises(SimulationIdle, match="and has sent 7 words meanwhile$"):
        device.abandon()


def test_buffers_need_not_be_whole_words(device):
    data = identify(9)
    for low in range(0, len(data), 5):
        device.push(data[low:low + 5])
    assert device.pull(24)[3] == 9
    assert native.IDLE_CYCLES == 20_000


# Amaranth complains when a testbench that still waits is thrown away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_simulation_ends_at_its_limit():
    dut = StreamBuffer(8)

    async def starve(ctx):
        await get(ctx, dut.o, 1)

    with pytest.raises(SimulationTimeout, match=r"^the simulation passed its limit of 50 cycles$"):
        simulate(dut, starve, cycles=50)
    gc.collect()


class Fickle(wiring.Component):
    """A source that breaks the rules: its payload changes while it waits."""

    o: Out(stream.Signature(8))
    unused: In(1)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.valid.eq(1)
        m.d.sync += self.o.payload.eq(self.o.payload + 1)
        return m


def test_sink_notices_a_payload_that_changes():
    dut = Fickle()

    async def take(ctx):
        await get(ctx, dut.o, 5, coin(1, 0.8))

    with pytest.raises(AssertionError, match=r"was withdrawn"):
        simulate(dut, take)


def test_source_and_sink_keep_the_order():
    dut = StreamBuffer(8)
    values = np.random.default_rng(4).integers(0, 256, 50).tolist()

    async def send(ctx):
        await put(ctx, dut.i, values, coin(1))

    async def receive(ctx):
        assert await get(ctx, dut.o, len(values), coin(2)) == values

    simulate(dut, send, receive)


def test_waveform_is_written(tmp_path):
    dut = StreamBuffer(8)

    async def send(ctx):
        await put(ctx, dut.i, [1, 2])

    simulate(dut, send, vcd=tmp_path / "buffer.vcd")
    assert "i__payload" in (tmp_path / "buffer.vcd").read_text()
