"""The memory-mapped core as it is exported, under cocotb."""

import pytest

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.verilog import AXI_CORE, axi_verilog
from tritstream.hw.config import DeviceConfig
from tritstream.sim.runner import BenchError, build_bench, run_bench


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Function that returns the folder of a compiled core."""
    folders = {}

    def build(lanes, channels, **parts):
        key = lanes, channels, *parts.items()
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("axi") / "core"
            config = AxiConfig(DeviceConfig(lanes, 1, 1024), channels, **parts)
            build_bench(axi_verilog(config)[0], folders[key], AXI_CORE)
        return folders[key]
    return build


@pytest.mark.parametrize("lanes, channels", [
    (8, 2), pytest.param(64, 1, marks=pytest.mark.long)])
def test_core(built, lanes, channels):
    assert run_bench(built(lanes, channels), "benches.bench_axi", AXI_CORE, lanes=lanes,
                     channels=channels) == 12


def test_lanes_get_what_the_memory_offers(built):
    assert run_bench(built(8, 2), "benches.bench_axi_rate", AXI_CORE, lanes=8, channels=2, k=1024,
                     d=3, blocks=1, matrices=2) == 1


@pytest.mark.long
@pytest.mark.parametrize("parts", [{"depth": 256}, {"burst": 16, "outstanding": 8}])
def test_too_few_words_in_flight_are_noticed(built, parts):
    with pytest.raises(BenchError, match=r"'share in GEMV': 0\.[3-9]"):
        run_bench(built(8, 1, **parts), "benches.bench_axi_rate", AXI_CORE, lanes=8, channels=1,
                  k=1024, d=3, blocks=1, matrices=1)
