"""A device that fails in the middle of a generation never makes a wrong token."""

import re

import pytest

from support.generation_faults import FAULTS, Trial

SURVIVED = [fault for fault in FAULTS if fault not in (
    "device: silent from then on", "device: gone", "device: garbage from then on")]

WHERE = (r"^board: model\.layers\.[0-3]\.\w+\.\w+: "
         r"(SCALES|ACTIVATIONS|GEMV of (folded )?row blocks \d+\.\.\d+ \(depth 3, K = \d+\)): ")


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    trial = Trial(tmp_path_factory.mktemp("faults"))
    yield trial
    trial.close()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("fault", SURVIVED)
def test_a_passing_fault_is_survived_with_correct_tokens(trial, fault, seed):
    assert trial.run(fault, seed) == ("survived", "")


@pytest.mark.parametrize(("fault", "message"), [
    ("device: silent from then on", r"gave up after 4 tries \(1: silent; 2: .*; 4: silent\)$"),
    ("device: gone", "the device is gone$"),
    ("device: garbage from then on", r"gave up after 4 tries \(1: "),
])
def test_a_lasting_fault_is_reported_with_device_matrix_and_frame(trial, fault, message):
    for seed in range(2):
        outcome, text = trial.run(fault, seed)
        assert outcome == "refused"
        assert re.search(WHERE + message, text), text


def test_the_device_after_a_failure_is_as_good_as_new(trial):
    assert trial.run("device: gone", 0)[0] == "refused"
    assert trial.run("answer: a bit flipped", 1) == ("survived", "")
