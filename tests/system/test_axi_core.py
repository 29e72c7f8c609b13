"""The memory-mapped core as it is exported, under cocotb."""

import json

import pytest

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.verilog import AXI_CORE, axi_verilog
from tritstream.hw.config import DeviceConfig
from tritstream.sim.axi_timing import Cause, Timing
from tritstream.sim.runner import build_bench, run_bench

from support.axi_software import check, session
from support.wire import Job


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Function that returns the folder of a compiled core."""
    folders = {}

    def build(*key):
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("axi") / "core"
            lanes, channels = key
            config = AxiConfig(DeviceConfig(lanes, 1, 1024), channels)
            build_bench(axi_verilog(config)[0], folders[key], AXI_CORE)
        return folders[key]
    return build


@pytest.mark.parametrize("lanes, channels", [
    (8, 2), pytest.param(64, 1, marks=pytest.mark.long)])
def test_core(built, lanes, channels):
    assert run_bench(built(lanes, channels), "benches.bench_axi", AXI_CORE, lanes=lanes,
                     channels=channels) == 12


def test_rate_behind_axi_ram_is_that_behind_our_memory(built):
    stalls, blocks, jobs = 0.3, 2, 2
    folder = built(8, 2)
    assert run_bench(folder, "benches.bench_axi_rate", AXI_CORE, lanes=8, channels=2, k=1024,
                     d=3, blocks=blocks, matrices=jobs, stalls=stalls) == 1
    theirs = json.loads((folder / "benches.bench_axi_rate" / "rate.json").read_text())
    timing = Timing(5, **{f"stall_{name}": stalls for name in ("ar", "r", "aw", "w", "b")})
    core, channels = session(timing)
    for channel, figure in zip(channels, theirs, strict=True):
        core.counts(channel.number)
        check(core, channel, *(Job(8, 3, blocks, k=1024, seed=seed) for seed in range(jobs)))
        memory = core.counts(channel.number).memory
        assert memory[Cause.WORD] == figure["words"]
        assert sum(memory.values()) == pytest.approx(figure["cycles"], rel=0.02)
        assert figure["words"] / figure["cycles"] == pytest.approx(1 - stalls, rel=0.02)
