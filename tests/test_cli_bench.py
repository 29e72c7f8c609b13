import json
import math
from pathlib import Path

from typer.testing import CliRunner

from golden.sizes import QWEN25
from golden.sources import open_source
from scripts.cli import app

MODEL = Path(__file__).parents[1] / "models" / "tiny-qwen2"


def bench(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_bench_quantize(tmp_path):
    done = bench("quantize", MODEL, "--work", tmp_path / "work", "--repeat", 1,
                 "-o", tmp_path / "bench.json")
    assert done.exit_code == 0, done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["command"].startswith("tritstream")
    assert report["packages"].keys() == {"tritstream", "numpy", "numba"}
    assert {row["depth"] for row in report["loops"]} == {1, 2, 3, 4}
    assert all(row["numpy"] > 0 and row["numba"] > 0 for row in report["loops"])
    plain, fast = report["packing"]
    assert (plain["engine"], fast["engine"]) == ("numpy", "numba")
    source = open_source(MODEL)
    for row in (plain, fast):
        assert row["weights"] == sum(math.prod(t.shape) for t in source.matrices().values())
        assert row["bytes"] == sum(tensor.size for tensor in source.tensors.values())
        assert math.isclose(row["million_weights_a_second"] * row["wall"] * 1e6, row["weights"])
        assert 3e7 < row["peak"] < 2e9
    assert report["same_bytes"] is True
    assert [row["projection"] for row in report["projections"]] == ["Qwen2.5-32B", "Qwen2.5-72B"]
    assert math.isclose(report["projections"][1]["wall"] / fast["wall"],
                        report["projections"][1]["weights"] / fast["weights"])
    assert report["projections"][1]["weights"] == 80 * sum(
        math.prod(shape) for shape in QWEN25["72B"].linear().values())
    assert "projections, not measured" in done.stdout
    assert list((tmp_path / "work").iterdir()) == []


def test_bench_quantize_without_a_model():
    done = bench("quantize", "--repeat", 1, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout).keys() == {"command", "processor", "cores", "python",
                                              "packages", "loops"}


def test_bench_refuses_what_it_cannot_pack(tmp_path):
    done = bench("quantize", tmp_path, "--work", tmp_path / "work", "--repeat", 1)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {tmp_path}: has no config.json")
