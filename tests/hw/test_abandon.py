import pytest

from tritstream.hw.config import DeviceConfig
from tritstream.sim.build import device_rtl
from tritstream.sim.runner import build_bench, build_icarus, run_bench


@pytest.mark.parametrize("lanes", [1, 4])
def test_abandoned_frames(tmp_path, lanes):
    build_bench(device_rtl(DeviceConfig(lanes, max_k=64)), tmp_path / "device")
    assert run_bench(tmp_path / "device", "benches.bench_abandon", lanes=lanes) == 15


@pytest.mark.long
@pytest.mark.parametrize("lanes", [1, 4])
def test_abandoned_frames_with_unknown_payload(tmp_path, lanes):
    # Only Icarus knows X, which the bench drives where no word is offered.
    build_icarus(device_rtl(DeviceConfig(lanes, max_k=64)), tmp_path / "device")
    assert run_bench(tmp_path / "device", "benches.bench_abandon", lanes=lanes) == 15
