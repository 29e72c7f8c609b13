"""The cocotb benches, on the Verilog that the exporter writes."""

from dataclasses import asdict

import pytest
from amaranth.back import verilog

from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.trit_unpacker import TritUnpacker
from tritstream.hw.config import DeviceConfig
from tritstream.hw.tools.core_export import CORE, core_verilog
from tritstream.sim.build import BuildError, device_rtl
from tritstream.sim.runner import BenchError, build_bench, build_icarus, run_bench

from benches.scale_chain import ScaleChain


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Function of a name and Verilog that returns the folder of the compiled design."""
    folders = {}

    def build(name, text, top="top"):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("cocotb") / name
            build_bench(text, folders[name], top)
        return folders[name]

    return build


def exported(component):
    return verilog.convert(component, name="top", emit_src=False)


@pytest.mark.parametrize("lanes", [2, 8])
def test_unpacker(built, lanes):
    folder = built(f"unpacker{lanes}", exported(TritUnpacker(lanes)))
    assert run_bench(folder, "benches.bench_unpacker", lanes=lanes) == 2


def test_lane(built):
    assert run_bench(built("lane", exported(Lane())), "benches.bench_lane") == 3


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_scale(built, lanes):
    folder = built(f"scale{lanes}", exported(ScaleChain(lanes)))
    assert run_bench(folder, "benches.bench_scale", lanes=lanes) == 6


@pytest.mark.parametrize("lanes, columns, axi", [
    (2, 1, True), (2, 2, False), (8, 1, True), (16, 1, False)])
def test_device(built, lanes, columns, axi):
    config = DeviceConfig(lanes, columns, max_k=256, clock_hz=50_000_000, build_id=0xC0C07B)
    text   = core_verilog(config) if axi else device_rtl(config)
    top    = CORE if axi else "top"
    folder = built(f"device{lanes}_{columns}", text, top)
    assert run_bench(folder, "benches.bench_device", top, axi=int(axi), **asdict(config)) == 32


@pytest.mark.long
@pytest.mark.parametrize("lanes, columns", [(2, 2), (8, 1)])
def test_device_with_unknown_payload(tmp_path, lanes, columns):
    # Only Icarus knows X, which the bench drives where no word is offered.
    config = DeviceConfig(lanes, columns, max_k=256, clock_hz=50_000_000, build_id=0xC0C07B)
    build_icarus(device_rtl(config), tmp_path / "device")
    assert run_bench(tmp_path / "device", "benches.bench_device", axi=0, **asdict(config)) == 32


def test_broken_design_fails(built):
    text   = exported(Lane())
    broken = text.replace(" + ", " - ", 1)
    assert broken != text
    with pytest.raises(BenchError, match=r"^benches.bench_lane: 3 of 3 tests failed \(see .*\)\n"
                                         r"(.*\n)*random_inputs_with_stalls: .*cycle \d+, row \d: "
                                         r"sum -?\d+, not -?\d+"):
        run_bench(built("broken", broken), "benches.bench_lane")


@pytest.mark.parametrize("source, message", [
    ("", r"^faulty: the simulator ended without results:\n(.*\n)*.*No tests were discovered"),
    ("import cocotb\n@cocotb.test(skip=True)\nasync def idle(dut): pass",
     r"^faulty: no test was run"),
    ("import nothing_of_this_name", r"^faulty: the simulator ended without results:\n(.*\n)*.*"
                                    r"nothing_of_this_name"),
    ("import cocotb\n@cocotb.test()\nasync def sad(dut): assert 1 == 2",
     r"^faulty: 1 of 1 tests failed \(see .*\)\nsad: .*assert 1 == 2"),
], ids=["empty", "skipped", "not_found", "failing"])
def test_faulty_bench_fails(built, tmp_path, monkeypatch, source, message):
    (tmp_path / "faulty.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BenchError, match=message):
        run_bench(built("lane", exported(Lane())), "faulty")


def test_wrong_verilog(tmp_path):
    with pytest.raises(BuildError, match=r"^verilator_bin failed \(1\):\n(.*\n)*.*syntax error"):
        build_bench("module top(; endmodule", tmp_path / "wrong")


def test_missing_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"^g\+\+ is missing: install it \(apt install g\+\+\) to "
                                         r"simulate the device$"):
        build_bench("module top; endmodule", tmp_path / "design")
