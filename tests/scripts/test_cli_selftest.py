import asyncio
import json
from dataclasses import asdict

import pytest

from tritstream.host.device import Device
from tritstream.hw.config import DeviceConfig
from tritstream.hw.io.serial_device import SerialDevice
from tritstream.hw.io.uart import Line
from tritstream.hw.tools.export import component_verilog
from tritstream.scripts.console import Failure
from tritstream.scripts.hardware.selftest import Soak, selftest
from tritstream.sim.runner import build_bench, run_bench

from support.cli_helpers import fails
from support.peer import Peer
from support.peer_faults import refuse, replace_arguments

CONFIG = DeviceConfig(2, 2, max_k=256, clock_hz=50_000_000, build_id=0xC0C07B)
BIT_CYCLES = 4


def try_out(peer, **soak):
    steps = []
    soak = Soak(**{"jobs": 5, "size": 4000, **soak})
    report = asyncio.run(selftest(
        Device(peer), soak, lambda count, label: steps.append((count, label))))
    return report, steps


def test_a_device_that_is_right():
    peer = Peer(lanes=4, columns=3, max_k=512)
    report, steps = try_out(peer)
    soak = report["soak"]
    assert json.loads(json.dumps(report)) == report
    assert report["device"]["lanes"] == 4
    assert (report["refusals"], report["known"], report["retries"]) == (5, 5, 0)
    assert peer.errors == [2, 3, 4, 5, 7]
    assert report["counters"]["frames_bad"] == 5
    assert soak["jobs"] == len(steps) == 5 and soak["words"] > 0
    assert soak["rows_compared"] > 0
    assert steps[0][0] == 1 and steps[0][1].startswith("job 0, depth ")


def test_a_soak_lasts_as_long_as_it_should():
    report, steps = try_out(Peer(), jobs=None, seconds=0.2)
    assert report["soak"]["jobs"] == len(steps) > 0
    assert report["soak"]["seconds"] >= 0.2
    assert sum(count for count, _ in steps) == pytest.approx(report["soak"]["seconds"], abs=0.01)


def test_jobs_are_of_all_kinds():
    _, steps = try_out(Peer(columns=4, max_k=128), jobs=60, size=3000)
    for depth in range(1, 5):
        assert any(f"depth {depth}," in label for _, label in steps)
    shapes = [tuple(map(int, label.split(", ")[2].split(" x "))) for _, label in steps]
    assert min(k for _, k in shapes) < 16 and max(k for _, k in shapes) > 100
    assert min(rows for rows, _ in shapes) < 40 and max(rows for rows, _ in shapes) > 200


def test_the_seed_decides():
    labels = [[label for _, label in try_out(Peer(), seed=seed)[1]] for seed in (1, 1, 2)]
    assert labels[0] == labels[1] != labels[2]


def test_a_wrong_sum_is_reported():
    peer = Peer()
    # IDENTIFY, RESET, five refusals, SCALES, ACTIVATIONS, GEMV
    peer.faults = {9: replace_arguments(0, 0, 0, bytes(320))}
    with pytest.raises(Failure, match=r"^depth 1: row 0 of vector 0 is 0 on the device and -?\d+ "
                                      r"in golden \(\d+ of 79 differ\)$"):
        try_out(peer)


def test_a_request_that_is_not_refused_is_reported():
    peer = Peer()
    peer.faults = {3: lambda peer, request, answers: [peer.answer(request, 0x81)]}
    with pytest.raises(Failure, match=r"^STATUS with a payload must be refused with error 3 "
                                      r"LENGTH; came: answer 0x81$"):
        try_out(peer)
    peer = Peer()
    peer.faults = {4: refuse(3)}
    with pytest.raises(Failure, match=r"^GEMV of depth 5 must be refused with error 4 DEPTH; came: "
                                      r"device refused GEMV with error 3 LENGTH: "):
        try_out(peer)


@pytest.mark.parametrize("soak", [{"seconds": 0}, {"jobs": 0}, {"size": -1}])
def test_a_soak_of_nothing_is_refused(soak):
    (name, value), = soak.items()
    with pytest.raises(ValueError, match=f"^{name} must be above 0, not {value}$"):
        Soak(**soak)


def test_the_command_needs_a_port_that_is_there():
    assert fails("hw", "selftest", "--port", "/dev/ttyNONE").startswith(
        "/dev/ttyNONE: cannot open it: no such port")


def test_the_command_through_the_pins_of_a_uart(tmp_path):
    folder = tmp_path / "serial"
    build_bench(component_verilog(SerialDevice(CONFIG, Line(BIT_CYCLES))), folder, level=1)
    settings = {"bit_cycles": BIT_CYCLES, **asdict(CONFIG)}
    assert run_bench(folder, "benches.bench_serial", **settings) == 2
