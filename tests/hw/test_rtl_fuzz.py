"""Fuzzing of the RTL: what its model says, that it finds faults, and its command."""

import json
from functools import partial

import numpy as np
import pytest

from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import Opcode
from tritstream.scripts.assurance.device_model import DeviceModel
from tritstream.scripts.assurance.rtl_fuzz import command
from tritstream.scripts.assurance.rtl_fuzz.elements import elements
from tritstream.scripts.assurance.rtl_fuzz.session import Tally, run_session
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice, SimulationIdle

from support.cli_helpers import command_fails, run_command
from support.rtl_mutants import MUTANTS, found_after
from support.wire import Job, frame

#: Those that other tests compile too.
CONFIGS = [DeviceConfig(1), DeviceConfig(8), DeviceConfig(16), DeviceConfig(8, 2, 256)]


def library(config):
    return build_native(config.lanes, device_rtl(config)).library


def found(device_type, sessions=4, config=CONFIGS[1]):
    """The first fault of some sessions."""
    tally = Tally()
    faults = (run_session(library(config), config, 1, number, tally, device_type)[1]
              for number in range(sessions))
    return next(filter(None, faults), None)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.lanes}x{config.columns}")
def test_the_device_does_what_the_model_says(config):
    tally = Tally()
    for number in range(3):
        assert run_session(library(config), config, 0, number, tally)[1] is None
    assert tally.sessions == 3 and tally.cycles > 20_000
    assert {"RESULT", "DONE", "ACK", "ERROR 1", "ERROR 6", "ERROR 7"} <= tally.answers.keys()


def test_a_session_follows_from_its_number():
    taken = [run_session(library(CONFIGS[1]), CONFIGS[1], seed, 5, Tally())[0].steps
             for seed in (0, 0, 1)]
    assert taken[0] == taken[1] != taken[2]


def test_elements_are_of_every_kind():
    model, kinds = DeviceModel(CONFIGS[3]), set()
    for kind, steps in elements(CONFIGS[3], np.random.default_rng(0), model, 800):
        kinds.add(kind)
        for what, *values in steps:
            if what == "push":
                model.feed(*values)
            elif what == "abandon":
                model.abandon()
            elif what == "reset":
                model.restart()
    assert len(kinds) == 31
    assert {"codes_after_mantissas", "mantissas_without_scales"} <= kinds
    assert {"rest of zeros", "ended by abandon", "ended by reset", "huge_length", "check"} <= kinds


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.lanes}x{config.columns}")
@pytest.mark.parametrize("depth", [1, 4])
def test_sums_of_the_model_are_golden(config, depth):
    job, model = Job(config.lanes, depth, columns=config.columns), DeviceModel(config)
    model.feed(job.loads())
    *results, done = model.feed(job.gemv(sequence=9))
    assert [(one.opcode, one.sequence, one.arg0, one.arg1, one.payload) for one in results] == (
        job.results(range(job.blocks), 9))
    assert (done.name, done.counts) == ("DONE", (job.words.size // config.lanes,))


def test_the_model_of_an_abandoned_frame():
    job, model = Job(8), DeviceModel(CONFIGS[1])
    model.feed(job.loads())
    block = job.words[0].size
    for size, answers in ((8, ["ERROR 1"]), (64, ["ERROR 6"]), (64 + block - 8, ["ERROR 6"]),
                          (64 + block, ["RESULT", "ERROR 6"]), (0, [])):
        assert model.feed(job.gemv()[:size]) == []
        assert [one.name for one in model.abandon()] == answers
    whole = job.activations()
    assert model.feed(whole[:-56]) == []
    assert [one.name for one in model.abandon()] == ["ACK"]
    model.feed(whole[:72])
    model.abandon()
    assert model.groups == {}


class Flips(NativeDevice):
    """A bit of an answer is wrong."""

    def pull(self, count):
        data = super().pull(count)
        return data[:-30] + bytes([data[-30] ^ 1]) + data[-29:] if len(data) > 3000 else data


class Says(NativeDevice):
    """A word too many is said when all is quiet."""

    def ready(self):
        return super().ready() or b"\x54\x33" + bytes(self.lanes)


class Forgets(NativeDevice):
    """The end of what is long does not arrive."""

    def push(self, data):
        return super().push(data[:-64] if len(data) > 4000 else data)


class Slow(NativeDevice):
    """Answers take their time."""

    def pull(self, count):
        data = super().pull(count)
        self.idle(10_000)
        return data


class Repairs(NativeDevice):
    """A damaged trailer is made right: a job whose bytes were damaged would be reported good."""

    def push(self, data):
        data = bytes(data)
        if len(data) == 128 and data[2] == Opcode.IDENTIFY and data[:2] == b"\x54\x33":
            data = frame(*data[2:4])
        return super().push(data)


@pytest.mark.parametrize(("device_type", "fault"), [
    (Flips, "of sequence"), (Says, "where nothing is expected"), (Forgets, ""),
    (Slow, " cycles for "), (Repairs, "response 0x80 of sequence ")])
def test_faults_of_a_device_are_found(device_type, fault):
    assert fault in found(device_type, 20 if device_type is Repairs else 4)


class Stuck(NativeDevice):
    def pull(self, count):
        raise SimulationIdle("the simulated device has been quiet for 20000 cycles")


def test_a_hang_is_told():
    assert found(Stuck) == "the simulated device has been quiet for 20000 cycles"


def test_a_fault_is_kept_and_runs_again(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "run_session", partial(run_session, device_type=Flips))
    report = tmp_path / "fuzz.json"
    said = command_fails("dev", "rtl-fuzz", "--seed", 1, "-o", report)
    entry, = json.loads(report.read_text())["devices"]
    fault, = entry["faults"]
    assert said == (f"{fault['fault']}; kept in {fault['kept']}; to run it again: tritstream dev "
                    f"rtl-fuzz --lanes 8 --columns 1 --max-k 32768 --seed 1 --session "
                    f"{fault['session']}")
    kept = tmp_path / fault["kept"]
    assert run_command("dev", "rtl-fuzz", "--replay", kept)[1].endswith("no fault\n")
    monkeypatch.setattr(command, "NativeDevice", Flips)
    assert command_fails("dev", "rtl-fuzz", "--replay", kept).endswith(f": {fault['fault']}")


def test_the_command_goes_on_from_its_report(tmp_path):
    report = tmp_path / "fuzz.json"
    counts = []
    for cycles in (50_000, 50_000, 300_000):
        code, out, err = run_command("dev", "rtl-fuzz", "--cycles", cycles, "-o", report, "--json")
        assert code == 0, err
        entry, = json.loads(out)["devices"]
        assert json.loads(report.read_text()) == json.loads(out)
        counts.append(entry["sessions"])
        assert entry["cycles"] >= cycles and entry["faults"] == []
    assert counts[0] == counts[1] < counts[2]
    assert command_fails("dev", "rtl-fuzz", "--seed", 3, "-o", report) == (
        f"{report} is of --seed 0: use this seed, or write elsewhere")


def test_wrong_inputs_are_refused(tmp_path):
    assert command_fails("dev", "rtl-fuzz", "--lanes", 3).startswith("Lanes must be one of ")
    other = tmp_path / "other.json"
    other.write_text("[]")
    assert command_fails("dev", "rtl-fuzz", "-o", other) == (
        f"{other}: not a report of fuzzing; write elsewhere")
    other.write_text("{")
    assert command_fails("dev", "rtl-fuzz", "-o", other).startswith(
        f"{other}: cannot be read as a report of fuzzing (")
    assert command_fails("dev", "rtl-fuzz", "--replay", other).startswith(
        f"{other}: not a session of `tritstream dev rtl-fuzz` (")


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
def test_planted_faults_are_found(name):
    assert found_after(name, DeviceConfig(1) if "one lane" in name else CONFIGS[3], 5_000_000)
