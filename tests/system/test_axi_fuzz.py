"""Fuzzing of the memory-mapped core: that it finds nothing, that it finds faults, its command."""

import json
import re

import pytest

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.assurance.axi_fuzz import command
from tritstream.scripts.assurance.axi_fuzz.disturbances import Disturbances
from tritstream.scripts.assurance.axi_fuzz.session import Tally, run_session
from tritstream.sim.axi_build import build_axi
from tritstream.sim.axi_core import SimulatedCore

from support.axi_mutants import MUTANTS, found_after
from support.axi_software import CONFIG
from support.cli_helpers import command_fails, run_command


def found(core_type, sessions=4):
    """The first fault of some sessions."""
    build, tally = build_axi(CONFIG), Tally()
    faults = (run_session(build, CONFIG, 1, number, tally, core_type)
              for number in range(sessions))
    return next(filter(None, faults), None)


def test_disturbed_channels_do_what_the_model_says():
    build, tally = build_axi(CONFIG), Tally()
    for number in range(10):
        assert run_session(build, CONFIG, 0, number, tally) is None, number
    assert tally.sessions == 10 and tally.cycles > 1_500_000 and tally.errors > 20
    assert tally.disturbances.keys() == {
        name for name in vars(Disturbances) if not name.startswith("_")}
    assert {"RESULT", "DONE", "ACK", "INFO", "ERROR 1", "ERROR 6", "ERROR 7"} <= (
        tally.answers.keys())


def test_a_session_follows_from_its_number():
    build, tallies = build_axi(CONFIG), [Tally() for _ in range(3)]
    for seed, tally in zip((0, 0, 1), tallies, strict=True):
        run_session(build, CONFIG, seed, 3, tally)
    assert tallies[0] == tallies[1] != tallies[2]


class HidesErrors(SimulatedCore):
    """The memory says that it gave no error."""

    def errors(self, channel):
        return 0


class GivesErrors(SimulatedCore):
    """The memory says that it gave an error."""

    def errors(self, channel):
        return super().errors(channel) + (self.cycles > 20_000)


class LosesInterrupts(SimulatedCore):
    """No channel requests an interrupt."""

    def read(self, address):
        return 0 if address == 8 else super().read(address)


class Flips(SimulatedCore):
    """A bit of the memory is wrong after some time."""

    def run(self, cycles):
        super().run(cycles)
        for view in self._views:
            view[1 << 20:] ^= 1 << self.cycles % 8 if self.cycles % 7 == 0 else 0


class Stuck(SimulatedCore):
    """The memory of a channel stands still after some time."""

    def run(self, cycles):
        super().run(cycles)
        if self.cycles > 50_000:
            self.hold(0, 1 << 40)


@pytest.mark.parametrize("core_type, fault", [
    (HidesErrors, r"channel \d halted by error \d, which no memory gave"),
    (GivesErrors, r"channel \d ignored an error of the memory"),
    (LosesInterrupts, r"channel \d has lost an interrupt"),
    (Flips, r".* where .* is expected|the trailer of .* is wrong|.* in place of .*"),
    (Stuck, r"channel 0 (hangs: .*|does not restart within .* cycles)")])
def test_wrong_cores_are_noticed(core_type, fault):
    said = found(core_type)
    assert said and re.fullmatch(fault, said), said


def test_the_command(tmp_path, monkeypatch):
    report, cycles = tmp_path / "fuzz.json", 1
    for sessions in (1, 1, 2):
        code, out, err = run_command("dev", "axi-fuzz", "-o", report, "--cycles", cycles, "--json")
        assert code == 0, err
        entry, = json.loads(out)["devices"]
        assert json.loads(report.read_text()) == json.loads(out)
        assert entry["sessions"] == sessions
        cycles = entry["cycles"] + (cycles > 1)
    assert {"lanes": 8, "channels": 2, "burst": 64, "outstanding": 16, "buffer": 512}.items() <= (
        entry.items())
    monkeypatch.setattr(command, "run_session", lambda *_: "channel 0 says no")
    assert command_fails("dev", "axi-fuzz", "--seed", 9, "--session", 4) == (
        "channel 0 says no; to run it again: tritstream dev axi-fuzz --lanes 8 --channels 2 "
        "--burst 64 --outstanding 16 --buffer 512 --seed 9 --session 4")


@pytest.mark.long
def test_a_slow_memory_is_no_hang():
    """2 bytes per cycle, in a tenth of the cycles, are 320 cycles or more per word of 64 lanes."""
    config = AxiConfig(DeviceConfig(64, 1, 1024), 1)
    assert run_session(build_axi(config), config, 0, 12, Tally()) is None


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
def test_planted_faults_are_found(name):
    assert found_after(name, 5_000_000)
