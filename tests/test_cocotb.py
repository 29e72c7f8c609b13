"""The cocotb benches, on the Verilog that the exporter writes."""

from dataclasses import asdict

import pytest
from amaranth.back import verilog

from hw.config import DeviceConfig
from hw.lane import Lane
from hw.trits import TritUnpacker
from sim.build import device_rtl
from sim.runner import build_bench, run_bench


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Function of a name and Verilog that returns the folder of the compiled design."""
    folders = {}

    def build(name, text):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("cocotb") / name
            build_bench(text, folders[name])
        return folders[name]

    return build


def exported(component):
    return verilog.convert(component, name="top", emit_src=False)


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_unpacker(built, lanes):
    folder = built(f"unpacker{lanes}", exported(TritUnpacker(lanes)))
    assert run_bench(folder, "benches.bench_unpacker", lanes=lanes) == 2


def test_lane(built):
    assert run_bench(built("lane", exported(Lane())), "benches.bench_lane") == 3


@pytest.mark.parametrize("lanes, columns", [(2, 1), (8, 1), (2, 2), (16, 1)])
def test_device(built, lanes, columns):
    config = DeviceConfig(lanes, columns, max_k=256, clock_hz=50_000_000, build_id=0xC0C07B)
    folder = built(f"device{lanes}_{columns}", device_rtl(config))
    assert run_bench(folder, "benches.bench_device", **asdict(config)) == 29
