"""Fuzzing: that planted faults are found, and a few inputs of every target."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tritstream.scripts.assurance.fuzz import supervise
from tritstream.scripts.assurance.fuzz.engine import Session, random_inputs
from tritstream.scripts.assurance.fuzz.report import merged
from tritstream.scripts.assurance.fuzz.targets import NAMES, load_target
from tritstream.scripts.assurance.fuzz.watch import Fault, Watch
from tritstream.scripts.cli import app

from support import fuzz_faults

#: Number of inputs per target. Targets that pack or import take longer per input.
INPUTS = {"checkpoint": 40, "quantize": 12, "import": 6, "journal": 12, "serve": 30}


@pytest.fixture
def cli():
    return lambda *arguments: CliRunner().invoke(app, ["dev", "fuzz", *map(str, arguments)])


@pytest.mark.parametrize("kind", fuzz_faults.FAULTS)
def test_planted_faults_are_found(kind, tmp_path):
    (tmp_path / "outside").write_text("secret")
    watch = Watch(fuzz_faults.FAULTS[kind], tmp_path / "input")
    assert watch.run(b"good") == "read"
    with pytest.raises(Fault) as fault:
        watch.run(b"bad")
    assert fault.value.kind.startswith(kind.strip())
    assert watch.run(b"good") == "read"


def test_documented_errors_are_not_faults(tmp_path):
    watch = Watch(fuzz_faults.MET, tmp_path / "input")
    assert watch.run(b"bad").startswith("CheckpointError ")


@pytest.mark.parametrize("name", NAMES)
def test_a_few_inputs_of_every_target(name, tmp_path):
    session = Session(load_target(name), tmp_path / "c", tmp_path / "input", tmp_path / "notes")
    random_inputs(session, seed=5, seconds=600, most=INPUTS.get(name, 80))
    notes = json.loads((tmp_path / "notes").read_text())
    assert notes["faults"] == {}
    assert notes["executions"] == sum(notes["outcomes"].values()) >= INPUTS.get(name, 80)
    assert notes["outcomes"]["read"] >= len(session.target.seeds())


def test_the_same_seed_gives_the_same_inputs(tmp_path):
    target = load_target("activations")
    outcomes = []
    for turn in range(2):
        session = Session(target, tmp_path / f"{turn}", tmp_path / "input", tmp_path / "notes")
        random_inputs(session, seed=3, seconds=600, most=30)
        outcomes.append((session.outcomes, sorted(path.name for path in
                                                  (tmp_path / f"{turn}").iterdir())))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0][1]) > 2


def test_counts_accumulate_and_the_corpus_is_kept(cli, tmp_path):
    report, corpus = tmp_path / "r.json", tmp_path / "corpus"
    for turn in (1, 2):
        result = cli("directory", "--engine", "random", "--most", 40, "--seed", turn,
                     "--seconds", 300, "--corpus", corpus, "-o", report)
        assert result.exit_code == 0, result.output
        found = json.loads(report.read_text())["targets"]["directory"]
        assert found["executions"]["random"] == found["read"] + found["refused"] >= 40 * turn
        assert found["faults"] == {}


def test_a_fault_is_kept_reported_and_reproduced(cli, tmp_path):
    target = "tests.support.fuzz_faults:KEY"
    result = cli(target, "--engine", "random", "--most", 5, "--seconds", 300, "--corpus",
                 tmp_path, "--json")
    assert result.exit_code == 1
    (kind, found), = json.loads(result.stdout)["targets"][target]["faults"].items()
    assert kind.startswith("KeyError: ") and found["times"] >= 1
    assert f"tritstream dev fuzz {target} --input {found['input']}" in result.stderr
    assert supervise.happens_again(target, Path(found["input"]).read_bytes())
    assert not supervise.happens_again(target, b"good")
    again = cli(target, "--input", found["input"])
    assert again.exit_code == 1
    assert "KeyError" in again.stderr and again.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(("name", "kind", "stuck"), [
    ("SLEEPS", "hang: killed", 3.0), ("KILLS", "died: SIGKILL", 300.0),
])
def test_a_process_that_is_stuck_or_dies(name, kind, stuck, tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "_STUCK", stuck)
    counts = supervise.fuzz_target("random", f"tests.support.fuzz_faults:{name}", tmp_path, 2.0, 1)
    assert counts.faults.keys() == {kind}
    kept, = tmp_path.glob(f"faults/{kind.split(':')[0]}-*")
    assert kept.read_bytes() != b"good"


@pytest.mark.parametrize(("arguments", "fault"), [
    (["nothing"], "nothing: unknown target; use one of checkpoint, quantize, "),
    (["gguf", "--engine", "magic"], "magic: engine must be one of atheris, random"),
    (["gguf", "answers", "--input", "x"], "an input is of one target: give its name"),
])
def test_wrong_arguments(cli, arguments, fault):
    result = cli(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(f"error: {fault}")


def test_an_earlier_fault_that_no_longer_occurs_is_fixed(tmp_path):
    (tmp_path / "gone").write_bytes(b"good")
    (tmp_path / "left").write_bytes(b"bad")
    earlier = {"executions": {"random": 3}, "seconds": 1, "read": 1, "refused": 0, "places": 0,
               "covered": 0, "stops": 0, "fixed": {}, "faults": {
                   name: {"input": str(tmp_path / name), "detail": "", "times": 1}
                   for name in ("gone", "left")}}
    target = "tests.support.fuzz_faults:KEY"
    found = merged({target: earlier}, target, "about", "random", supervise.Counts())
    assert (list(found["fixed"]), list(found["faults"])) == (["gone"], ["left"])
    assert found["executions"] == {"random": 3}
