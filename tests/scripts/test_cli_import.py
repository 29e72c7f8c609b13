import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from support.cli_helpers import fails, tritstream
from support.golden_helpers import contents
from support.published import write_checkpoint

DOWN = "model.layers.0.mlp.down_proj"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "m"
    write_checkpoint(path, depth=2, layers=1, shards=2, tied=False)
    return path


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "m"
    tensors = write_checkpoint(path, depth=2, layers=1)
    tensors[f"{DOWN}.weight"][9, 33] = 0.777
    save_file(tensors, path / "model.safetensors")
    return path


def test_import_verify_export(model, tmp_path):
    before = contents(model)
    code, out, err = tritstream("import", model, "-o", tmp_path / "o")
    assert code == 0
    assert re.fullmatch(r"warning: only 8\d\.\d% of the weights are packed; [^\n]*\n", err)
    assert "\nmatrices were chosen" not in out and "  output head: lm_head.weight\n" in out
    assert re.search(rf"{DOWN} +64x160 +2 +s\*q/h +F16 ", out)
    assert re.search(r"7 matrices, 40960 weights at \d\.\d\d bits with padding and tables; read "
                     r"back, every value is that of the source \(\d+ negative zeros are ", out)
    assert ("7 tensors kept as they were, as the codec has it: lm_head.weight, "
            "model.embed_tokens.weight, model.layers.*.input_layernorm.weight, ") in out
    assert out.endswith(f"packed checkpoint: {tmp_path / 'o'}\n")
    code, out, err = tritstream("verify", tmp_path / "o", "--against", model)
    assert (code, err) == (0, "")
    assert out == (f"{tmp_path / 'o'}: 14 tensors, all valid\nwhether it can be loaded was not "
                   "checked: config.json names no model_type\n")
    code, _, err = tritstream("export", tmp_path / "o", "-o", tmp_path / "e")
    assert (code, err) == (0, "")
    for file in model.glob("*.safetensors"):
        again = load_file(tmp_path / "e" / file.name)
        for name, tensor in load_file(file).items():
            np.testing.assert_array_equal(again[name], tensor)
    assert contents(model) == before


def test_import_as_json(model, tmp_path):
    code, out, err = tritstream("import", model, "-o", tmp_path / "o", "-d", 3, "--json")
    assert code == 0 and err.startswith("warning: only 8")
    report = json.loads(out)
    assert report["depth"] == 3
    assert report["misfits"] == []
    assert report["source_sha256"].keys() == {file.name for file in model.iterdir()}
    matrix = next(matrix for matrix in report["matrices"] if matrix["name"] == DOWN)
    assert (matrix["depth"], matrix["dtype"], matrix["outcome"]["form"]) == (3, "F16", "s*q/h")
    assert len(matrix["outcome"]["table"]) == 27
    attempt, = matrix["outcome"]["attempts"]
    assert (attempt["depth"], attempt["form"], attempt["unfit"]) == (3, "s*q/h", 0)
    assert attempt["least"] <= 27
    assert report["negative_zeros"] == sum(
        matrix["outcome"]["negative_zeros"] for matrix in report["matrices"]) > 0
    assert {"lm_head.weight", "model.norm.weight"} < set(report["kept"])


def test_a_misfit(damaged, tmp_path):
    line = fails("import", damaged, "-o", tmp_path / "o")
    assert line.startswith(
        f"{damaged / 'model.safetensors'}: {DOWN}.weight does not fit: nearest is d = 2, s*q/h, "
        "which leaves 1 of 640 groups over, the first at row 9, column 32, with ratios ")
    code, out, err = tritstream("import", damaged, "-o", tmp_path / "o", "--keep-going")
    assert code == 0
    assert err.startswith(f"warning: {DOWN}.weight does not fit: ")
    assert f"1 matrices kept because they do not fit: {DOWN}.weight\n" in out
    assert "6 matrices, " in out
    kept = load_file(tmp_path / "o" / "packed.safetensors")[f"{DOWN}.weight"]
    assert kept.tobytes() == load_file(damaged / "model.safetensors")[f"{DOWN}.weight"].tobytes()


def test_probe(damaged, tmp_path):
    before = sorted(damaged.parent.iterdir())
    code, out, err = tritstream("import", damaged, "--probe")
    assert (code, err) == (
        1, f"error: {damaged}: 1 of 7 matrices do not fit, the first {DOWN}\n")
    assert re.search(rf"{DOWN} +64x160 +F16 +\d+ +- +- +-\n", out)
    assert re.search(r"\n  d = 2, s\*q/h: no scale makes 1 of \d+ groups\n", out)
    assert re.search(r"ratios to the largest of a group: .* 0\.25 \(\d+\.\d%\) ", out)
    code, out, _ = tritstream("import", damaged, "--probe", "--json")
    assert code == 1
    report = json.loads(out)
    found = {matrix["name"]: matrix for matrix in report["matrices"]}
    assert [name for name, matrix in found.items() if not matrix["fits"]] == [DOWN]
    attempt = found[DOWN]["outcome"]["attempts"][0]
    assert (attempt["depth"], attempt["form"], attempt["unfit"]) == (2, "s*q/h", 1)
    assert 0.25 in [ratio for ratio, _ in found[DOWN]["ratios"]]
    assert sorted(damaged.parent.iterdir()) == before


def test_probe_of_what_fits(model):
    code, out, err = tritstream("import", model, "--probe")
    assert (code, err) == (0, "")
    assert "does not fit" not in out


def test_wrong_use(model, tmp_path):
    assert fails("import", model) == "give a directory to write with -o, or --probe"
    assert fails("import", model, "-o", tmp_path / "o", "-d", 5) == "depth must be 1..4, not 5"
    assert fails("import", tmp_path, "-o", tmp_path / "o") == (
        f"{tmp_path}: is empty; give the directory of a checkpoint")
    assert fails("import", model, "-o", model, "--force").endswith(
        "must not be the source or hold it; choose another")


def test_consume(model, tmp_path):
    shutil.copytree(model, tmp_path / "m")
    assert fails("import", tmp_path / "m", "--probe", "--consume") == (
        "--probe writes nothing, so --consume has no meaning with it; leave one out")
    code, out, _ = tritstream("import", tmp_path / "m", "-o", tmp_path / "o", "--consume")
    assert code == 0
    assert out.endswith("\n2 files of weights deleted from the source\n"
                        f"packed checkpoint: {tmp_path / 'o'}\n")
    assert sorted(file.name for file in (tmp_path / "m").iterdir()) == [
        "LICENSE", "config.json", "model.safetensors.index.json"]
    code, out, err = tritstream("verify", tmp_path / "o", "--against", model)
    assert (code, err) == (0, "")
