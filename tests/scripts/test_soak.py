"""The soak: its jobs, bad links, and its report across kills."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError
from tritstream.scripts.assurance.soak import command, work
from tritstream.scripts.assurance.soak.disturbed import (
    ANSWER_FAULTS,
    REQUEST_FAULTS,
    Disturbance,
    DisturbedTransport,
)
from tritstream.scripts.assurance.soak.draw import KINDS, draw_activations, draw_job, draw_matrix
from tritstream.scripts.assurance.soak.work import config_of, run_job
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

from support.cli_helpers import command_fails, run_command

#: Those that other tests compile too.
SPECS = ("sim:lanes=8", "sim:lanes=8,columns=2,max_k=256", "sim:lanes=1", "sim:lanes=16")
SIM = ("--device", SPECS[0])


@pytest.fixture
def six_seconds(monkeypatch):
    """A clock that is ahead by six seconds at each look, so that a job takes 0.1 minutes."""
    clock = SimpleNamespace(monotonic=count(0, 6).__next__)
    monkeypatch.setattr(command, "time", clock)


def test_jobs_equal_golden():
    kinds, faults, rows, answers = Counter(), Counter(), 0, 0
    for number in range(24):
        job, outcome = run_job(0, number, SPECS)
        assert outcome.fault is None, (job, outcome)
        kinds[job.kind] += 1
        faults += outcome.faults
        rows, answers = rows + outcome.rows, answers + outcome.answers
    assert kinds.keys() == KINDS.keys()
    assert rows > 10_000 and answers > 50
    assert sum(faults[kind] for kind in REQUEST_FAULTS + ANSWER_FAULTS) > 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_follows_from_its_number(kind):
    configs = [config_of(spec) for spec in SPECS]
    number = next(number for number in range(1000)
                  if (job := draw_job(3, number, configs)).kind == kind
                  and (job.faults > 1 or kind in ("opened", "frames")) and max(job.shape) < 900)
    first, again = (run_job(3, number, SPECS) for _ in range(2))
    assert first == again
    assert run_job(4, number, SPECS)[0] != first[0]


def test_jobs_are_of_all_sorts():
    configs = [config_of(spec) for spec in command.DEVICES]
    jobs = [draw_job(0, number, configs) for number in range(1500)]
    traits = Counter(trait for job in jobs for trait in job.traits())
    assert len(traits) == 4 + 5 + 6 + 6 + 2 + 4 + 3 + 1
    assert min(traits.values()) > 10
    assert {place for job in jobs for place in job.devices} == set(range(len(configs)))
    shapes = np.array([job.shape for job in jobs])
    assert shapes.min() == 1 and shapes[:, 0].max() > 3500 and shapes[:, 1].max() > 60_000
    assert {len(job.devices) for job in jobs} == {1, 2, 3}


@pytest.mark.parametrize("change", [{"matrix": "generated"}, {"table": "wide"},
                                    {"table": "subnormal"}, {"activations": "quantized"}])
def test_values_fit_their_job(change):
    job = draw_job(0, 0, [config_of(SPECS[0])])
    job = type(job)(**vars(job) | {"shape": (7, 21), "vectors": 2} | change)
    rng = np.random.default_rng(0)
    tiles, table, depth, shape = draw_matrix(job, rng)
    x = draw_activations(job, rng)
    assert gemv(unpack(tiles, depth, shape, table), x).shape == (2, 7)


async def disturbed_product(disturbances, retries=24):
    """Return the disturbances and the number of retries of a correct product."""
    config = config_of(SPECS[0])
    native = NativeDevice(build_native(config.lanes, device_rtl(config)).library)
    transport = DisturbedTransport(native, disturbances, np.random.default_rng(1))
    job = draw_job(0, 0, [config])
    job = type(job)(**vars(job) | {"shape": (200, 64), "vectors": 1, "matrix": "bytes"})
    rng = np.random.default_rng(0)
    matrix, x = draw_matrix(job, rng), draw_activations(job, rng)
    async with Device(transport, retries) as device:
        sums, stats = await device.gemv(await device.prepare(matrix), x)
    tiles, table, depth, shape = matrix
    np.testing.assert_array_equal(sums, gemv(unpack(tiles, depth, shape, table), x))
    return transport.done, stats.retries


@pytest.mark.parametrize("at", [140, 700])
@pytest.mark.parametrize("kind", REQUEST_FAULTS + ANSWER_FAULTS)
def test_a_product_comes_through_a_bad_link(kind, at):
    done, retries = asyncio.run(disturbed_product([Disturbance(kind, at, 5)]))
    assert done == {kind: 1}
    assert retries > 0 or kind in ("reset pin", "RESET frame")


def test_a_good_link_disturbs_nothing():
    assert asyncio.run(disturbed_product([])) == ({}, 0)


def test_a_link_that_is_too_bad():
    many = [Disturbance("flip", 64 * place, 1) for place in range(1000)]
    with pytest.raises(DeviceError, match="gave up after 4 tries"):
        asyncio.run(disturbed_product(many, retries=3))


def wrong_golden(matrix, x):
    sums = gemv(matrix, x)
    sums.flat[-1] += 1
    return sums


def test_a_wrong_row_is_reported(monkeypatch, tmp_path, six_seconds):
    monkeypatch.setattr(work, "gemv", wrong_golden)
    job, outcome = next(done for number in range(9)
                        if (done := run_job(0, number, SPECS[:1]))[0].kind == "device")
    (rows, _), vectors = job.shape, job.vectors
    assert outcome.fault.startswith(f"row {rows - 1} of vector {vectors - 1} is ")
    assert outcome.fault.endswith(f"in golden (1 of {rows * vectors} differ)")
    assert command_fails("dev", "soak", *SIM, "--job", job.number) == (
        f"job {job.number}: {outcome.fault}")
    report = tmp_path / "soak.json"
    jobs = job.number + 1
    said = command_fails("dev", "soak", *SIM, "-o", report, "--minutes", jobs / 10)
    plain = json.loads(report.read_text())
    first = plain["failures"][0]
    assert plain["total"]["jobs"] == jobs
    assert plain["total"]["failed"] == len(plain["failures"]) > 0
    assert said == (f"{plain['total']['failed']} of {plain['total']['jobs']} jobs failed, the "
                    f"first: {first['fault']}; to run it again: tritstream dev soak --seed 0 --job "
                    f"{first['job']['number']} --device sim:lanes=8")


class Breaks(NativeDevice):
    def pull(self, count):
        raise IndexError("planted")


def test_any_exception_of_the_driver_is_a_finding():
    _, outcome = next(done for number in range(9)
                      if (done := run_job(0, number, SPECS[:1], Breaks))[0].kind == "device")
    assert outcome.fault == "IndexError: planted"


def test_a_killed_soak_resumes(tmp_path):
    report = tmp_path / "soak.json"
    arguments = ["dev", "soak", *SIM, "-o", str(report), "--minutes"]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tritstream.scripts.cli", *arguments, "9"])
    deadline = time.monotonic() + 300
    while not report.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = json.loads(report.read_text())
    assert before["next"] == before["total"]["jobs"] > 0
    more = before["seconds"] / 60 + 0.01
    code, out, err = run_command(*arguments, more, "--json")
    assert code == 0, err
    after = json.loads(out)
    assert after == json.loads(report.read_text())
    assert after["next"] == after["total"]["jobs"] > before["next"]
    assert after["seconds"] >= 60 * more
    again = json.loads(run_command(*arguments, more, "--json")[1])
    assert again["next"] == after["next"]


def test_jobs_of_several_processes_are_counted_in_order(tmp_path, six_seconds):
    report = tmp_path / "soak.json"
    code, out, err = run_command("dev", "soak", *SIM, "-o", report, "--minutes", 0.7, "--workers",
                                 2, "--json")
    assert code == 0, err
    plain = json.loads(out)
    assert plain == json.loads(report.read_text())
    assert plain["next"] == plain["total"]["jobs"] == 7
    outcomes = [run_job(0, number, SPECS[:1])[1] for number in range(plain["next"])]
    assert plain["total"]["cycles"] == sum(outcome.cycles for outcome in outcomes)


def test_one_job_is_described():
    code, out, _ = run_command("dev", "soak", *SIM, "--job", 3, "--json")
    plain = json.loads(out)
    job, outcome = run_job(0, 3, SPECS[:1])
    assert code == 0 and plain["devices"] == ["sim:lanes=8"]
    assert plain["outcome"]["rows"] == outcome.rows
    assert f"shape        {job.shape}\n" in run_command("dev", "soak", *SIM, "--job", 3)[1]


def test_wrong_inputs_are_refused(tmp_path):
    report = tmp_path / "soak.json"
    assert command_fails("dev", "soak") == (
        "write the report somewhere with -o REPORT.json, or run one --job")
    assert command_fails("dev", "soak", "-o", report, "--minutes", 0) == (
        "minutes must be above 0, not 0")
    assert command_fails("dev", "soak", "-o", report, "--device", "tcp://a:1") == (
        "tcp://a:1: a soak takes simulated devices, each by itself, such as sim:lanes=8,columns=2")
    report.write_text("[]")
    assert command_fails("dev", "soak", "-o", report) == (
        f"{report}: not a report of a soak; write elsewhere")
    report.write_text("{")
    assert command_fails("dev", "soak", "-o", report).startswith(
        f"{report}: cannot be read as a report of a soak (")
    report.unlink()
    assert run_command("dev", "soak", *SIM, "-o", report, "--minutes", 0.001)[0] == 0
    assert command_fails("dev", "soak", *SIM, "-o", report, "--seed", 1) == (
        f"{report} is of a soak with --seed 0 on sim:lanes=8: use these options, or write "
        "elsewhere")
