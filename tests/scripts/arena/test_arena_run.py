"""The arena itself on the shipped model: rows, resuming, refusals."""

import json

import pytest

from tritstream.scripts.reports.arena import contestants, run
from tritstream.scripts.reports.arena.table import arena_table, mean_kl
from tritstream.scripts.reports.bench.measuring import Run

from support.cli_helpers import MODEL, command_fails, run_command

FIGURE = {"value": 0.5, "error": 0.25}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Another directory, and commands in this process, which has imported torch."""
    monkeypatch.chdir(tmp_path)
    for module in (run, contestants):
        monkeypatch.setattr(module, "run_measured", measured)


def measured(arguments):
    code, _, said = run_command(*arguments)
    return Run(code, 1.0, 1.0, 1, said.strip())


@pytest.fixture
def texts(tmp_path):
    for name in ("prose", "code", "calibration"):
        (tmp_path / f"{name}.txt").write_text(f"It was {name}, and she knew it well. " * 200)
    return ["--text", "prose.txt", "--text", "code.txt", "--calibration", "calibration.txt",
            "--ctx", "128", "--tokens", "130", "-o", "out"]


def arena(*options):
    return run_command("dev", "arena", "run", MODEL, *options)


def test_rows_are_measured_once(texts, monkeypatch, tmp_path):
    options = [*texts, "--only", "search-d2", "--row", "own=-d 1 --method tritllm-v2"]
    code, out, err = arena(*options)
    assert code == 0, err
    report = json.loads((tmp_path / "out/arena.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["own", "search-d2"]
    row = report["rows"][1]
    assert 3.4 < row["stored_bits"] < 3.7 and 0 < row["squared_error"] < 0.05
    assert row["texts"].keys() == {"prose", "code"} == report["base"]["perplexity"].keys()
    worse, better = (one["texts"]["code"]["kl"]["value"] for one in report["rows"])
    assert 0 < better < worse
    assert report["base"]["scored_tokens"] == 126
    assert "search-d2" in out and "126 tokens scored per text" in out
    assert not list((tmp_path / "out/made").glob("*/"))

    def fails(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(run, "_make", fails)
    assert arena(*options)[:2] == (0, out)
    assert arena(*options, "--again")[0] == 1


def test_models_of_an_interrupted_run_are_evaluated(texts, monkeypatch, tmp_path):
    whole = run._evaluated

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_evaluated", killed)
    assert arena(*texts, "--only", "search-d2")[0] == 130
    assert (tmp_path / "out/made/search-d2").is_dir()
    monkeypatch.setattr(run, "_evaluated", whole)
    monkeypatch.setattr("tritstream.scripts.reports.arena.contestants.Trits.make", killed)
    assert arena(*texts, "--only", "search-d2")[0] == 0


def test_rows_of_other_settings_are_refused(texts, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/settings.json").write_text('{"context": 64, "tokens": 130, "texts": {}}')
    assert command_fails("dev", "arena", "run", MODEL, *texts) == (
        "out: its rows were measured with another context and another texts; give another "
        "--output")


def test_wrong_names_are_refused(texts):
    assert command_fails("dev", "arena", "run", MODEL, *texts, "--only", "best").startswith(
        "--only best matches no row; the rows are tritllm-v2-d2, search-d2, ")
    assert command_fails("dev", "arena", "run", MODEL, *texts, "--row", "a/b=-d 3") == (
        "--row must be NAME=OPTIONS of `tritstream quantize`, not 'a/b=-d 3'")
    assert command_fails("dev", "arena", "run", MODEL, *texts, "--only", "Q6_K") == (
        "Q6_K needs llama.cpp's library: give --llama-cpp, or leave its rows out by --only")
    assert command_fails("dev", "arena", "run", MODEL, *texts, "--row", "x=-d 9", "--only",
                         "x").startswith("quantize -d 9: error: ")


def row(name, bits, *divergences):
    return {"name": name, "stored_bits": bits, "squared_error": 0.01, "texts": {
        str(number): {"kl": {"value": value, "error": 0.3}, "same_top": FIGURE}
        for number, value in enumerate(divergences)}}


def test_a_row_that_no_row_of_as_few_bits_beats_is_marked():
    rows = [row("a", 3.0, 0.4, 0.2), row("b", 4.0, 0.5, 0.5), row("c", 4.0, 0.1, 0.1)]
    assert mean_kl(rows[0]) == pytest.approx((0.3, 0.3 / 2 ** 0.5))
    heads, shown = arena_table({"texts": {"evaluation-a": "", "b": ""}, "rows": rows[::-1]})
    assert heads == ["row", "stored bits", "squared error", "mean KLD", "KLD, a", "KLD, b",
                     "same top, %"]
    assert {name: mean.endswith("*") for name, _, _, mean, *_ in shown} == {
        "a": True, "b": False, "c": True}
    assert shown[0] == ["a", "3.00", "1.00e-02", "0.3000 ± 0.2121*", "0.4000 ± 0.3000",
                        "0.2000 ± 0.3000", "50.0"]
