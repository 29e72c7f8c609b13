"""One token of a model through the RTL: every row, killed and resumed, weights by rule."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.fixed_point import GROUP
from tritstream.golden.gemv import gemv
from tritstream.golden.model_sizes import HybridSizes, Sizes
from tritstream.golden.packed_matrix import PackedMatrix
from tritstream.golden.quantize import quantize
from tritstream.golden.tiles import padding_is_zero, trits_padding_is_zero
from tritstream.host.layout import shapes
from tritstream.host.layout.shapes import ModelShape, WeightForm
from tritstream.scripts.console import Failure
from tritstream.scripts.reports.bench.token import work
from tritstream.scripts.reports.bench.token.weights import random_matrix
from tritstream.scripts.running import stream
from tritstream.scripts.running.stream import unpacked

from support.cli_helpers import command_fails, run_command

SMALL = {
    "coded": ModelShape("coded", Sizes(2, 64, 112, 2, 1, 32, 100), WeightForm()),
    "ternary": ModelShape("ternary", HybridSizes(4, 160, 288, 2, 1, 32, 203, 1, 2, 32),
                          WeightForm(1, 128, True), packed_head=True),
    "single": ModelShape("single", Sizes(1, 64, 112, 2, 1, 32, 100), WeightForm(1, None, True)),
}


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    for name, model in SMALL.items():
        monkeypatch.setitem(shapes.SHAPES, name, model)


def run_token(*arguments):
    code, out, err = run_command("dev", "bench", "token", "--lanes", 8, *arguments)
    assert code == 0, err
    return out


@pytest.mark.parametrize("name", SMALL)
def test_every_row_of_a_token(name, tmp_path):
    report, model = tmp_path / "token.json", SMALL[name]
    text = run_token("--shape", name, "--processes", 1, "--report", report)
    found = json.loads(report.read_text())
    total, matrices = found["totals"], dict(model.matrices())
    assert (total["matrices"], total["mismatches"]) == (len(matrices), 0)
    assert total["compared"] == sum(rows for rows, _ in matrices.values())
    assert total["weights"] == model.weights
    assert found["as_computed"] and "words and cycles as computed" in text
    assert found["sent_bytes"] > total["stream_bytes"] == 8 * total["words"]
    assert {one["module"] for one in found["modules"]} == {
        name.rpartition(".")[2] for name in matrices}
    assert [one["gigabytes_per_second"] for one in found["projected"]] == [19.2, 460, 820]
    lines = [json.loads(line) for line in report.with_suffix(".jsonl").read_text().splitlines()]
    assert [line[0] for line in lines[1:]] == list(matrices)
    # Nothing is left to do, so the time is that of the first run.
    run_token("--shape", name, "--processes", 1, "--report", report)
    assert json.loads(report.read_text())["seconds"] == found["seconds"]


def test_layers_and_other_forms(tmp_path):
    report = tmp_path / "token.json"
    run_token("--shape", "ternary", "--layers", 1, "-d", 2, "--group", 32, "--processes", 1,
              "--report", report)
    found = json.loads(report.read_text())
    assert found["form"] == {"depth": 2, "group": 32, "direct": True}
    assert (found["layers"], found["totals"]["matrices"], found["projected"]) == (1, 6, [])


def test_a_killed_token_resumes(tmp_path):
    """Its processes end with it, and no matrix is streamed twice."""
    report = tmp_path / "token.json"
    lines = report.with_suffix(".jsonl")
    arguments = ["dev", "bench", "token", "--layers", "2", "--lanes", "8", "--report", str(report)]
    command = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tritstream", *arguments], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: lines.exists() and len(lines.read_text().splitlines()) > 2)
        workers = children_of(command.pid)
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait()
    assert len(workers) >= 2
    wait_until(lambda: not any(map(is_alive, workers)))
    before = lines.read_text().splitlines()
    assert 2 < len(before) < 15 and not report.exists()
    code, _, err = run_command(*arguments)
    assert code == 0, err
    after = lines.read_text().splitlines()
    assert after[:len(before)] == before
    names = [json.loads(line)[0] for line in after[1:]]
    assert len(names) == len(set(names)) == 14
    assert json.loads(report.read_text())["totals"]["mismatches"] == 0


def wait_until(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError("waited for ten minutes")


def children_of(process):
    found = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in found.split()]


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_lines_of_another_token(tmp_path):
    report = tmp_path / "token.json"
    arguments = ["dev", "bench", "token", "--lanes", 8, "--processes", 1, "--shape", "coded",
                 "--report", report]
    assert run_command(*arguments)[0] == 0
    code, _, err = run_command(*arguments, "--seed", 1)
    assert (code, err.splitlines()[-1]) == (
        1, f"error: {tmp_path / 'token.jsonl'}: of another token or another RTL; remove it, or "
           "name another report")


def test_a_row_that_differs_is_reported(monkeypatch):
    """The device and golden get the same bytes, so another integer is put in between."""
    monkeypatch.setattr(stream, "gemv", lambda matrix, x: gemv(matrix, x) + (matrix.rows == 64))
    code, _, err = run_command("dev", "bench", "token", "--lanes", 8, "--processes", 1, "--shape",
                               "single")
    assert code == 1
    assert re.search(r"error: model\.layers\.0\.self_attn\.q_proj: row 0 of vector 0 is "
                     r"(-?\d+) on the device and -?\d+ in golden \(192 rows differ\)", err)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--shape", "gpt"], "no model 'gpt'; there are "),
    (["--shape", "coded", "--layers", 3], "coded has 2 layers, not 3"),
    (["--shape", "coded", "--scales", "float"], "--scales must be coded, direct, matrix, not "
                                                "'float'"),
    (["--shape", "coded", "--scales", "matrix", "--group", 16],
     "--scales matrix has no groups; leave out --group"),
    (["--shape", "coded", "-d", 5], "depth must be 1..4, not 5"),
])
def test_wrong_arguments(arguments, message):
    assert command_fails("dev", "bench", "token", *arguments).startswith(message)


def test_a_process_that_dies(monkeypatch):
    def died(*_):
        raise work.BrokenProcessPool
    monkeypatch.setattr(work, "as_completed", died)
    with pytest.raises(Failure, match=r"^a process died, .*run the command again to resume"):
        list(work.run_tasks([], 2))


FORMS = [WeightForm(3), WeightForm(1), WeightForm(2, 64), WeightForm(1, 128, True),
         WeightForm(3, 64, True), WeightForm(1, None, True)]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_weights_depend_on_name_and_seed_alone(form):
    shape = 203, 330
    one, same, other = (random_matrix(name, shape, form, seed)
                        for name, seed in (("a", 1), ("a", 1), ("a", 2)))
    assert bytes_of(one) == bytes_of(same) != bytes_of(other)
    assert bytes_of(one) != bytes_of(random_matrix("b", shape, form, 1))
    matrix = unpacked(one)
    assert (matrix.shape, matrix.group) == (shape, form.group_of(shape[1]))
    if isinstance(one, PackedMatrix):
        assert trits_padding_is_zero(one.trits, form.depth, shape)
    else:
        assert padding_is_zero(one[0], form.depth, shape)


def bytes_of(matrix):
    return matrix.trits.tobytes() if isinstance(matrix, PackedMatrix) else matrix[0].tobytes()


def test_weights_have_the_statistics_of_trained_ones():
    matrix = unpacked(random_matrix("a", (1000, 1024), WeightForm(1, 128, True), 0))
    shares = [np.mean(matrix.q == level) for level in (-1, 0, 1)]
    np.testing.assert_allclose(shares, (0.3365, 0.3277, 0.3358), atol=0.002)
    scales = matrix.scales.stored.astype(np.float64)
    assert scales.min() > 0.00726 and scales.max() < 0.02905
    assert abs(np.median(scales) - 0.01111) < 1e-4
    assert matrix.scales.exactness.rows == 0


def test_weights_have_the_statistics_of_quantized_ones():
    """Integers, largest integers of groups, and codes are as frequent as in a quantized tensor."""
    made = unpacked(random_matrix("a", (1000, 1024), WeightForm(3), 0))
    weights = GeneratedTensor("a", "F32", (1000, 1024), seed=5).read()
    quantized = quantize(weights, 3, engine=None)
    for values, apart in (
            (lambda matrix: matrix.q + 13, 0.005), (lambda matrix: matrix.codes, 0.06),
            (lambda matrix: np.abs(matrix.q.reshape(-1, GROUP)).max(axis=1), 0.06)):
        shares = [np.bincount(values(matrix).ravel(), minlength=27) / values(matrix).size
                  for matrix in (made, quantized)]
        np.testing.assert_allclose(*shares, atol=apart)
