"""The memory-mapped core as it is exported, under cocotb."""

import pytest

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.verilog import AXI_CORE, axi_verilog
from tritstream.hw.config import DeviceConfig
from tritstream.sim.runner import build_bench, run_bench


@pytest.mark.parametrize("lanes, channels", [
    (8, 2), pytest.param(64, 1, marks=pytest.mark.long)])
def test_core(tmp_path, lanes, channels):
    text, _ = axi_verilog(AxiConfig(DeviceConfig(lanes, 1, 256), channels))
    build_bench(text, tmp_path / "core", AXI_CORE)
    assert run_bench(tmp_path / "core", "benches.bench_axi", AXI_CORE, lanes=lanes,
                     channels=channels) == 12
