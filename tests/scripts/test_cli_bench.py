import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tritstream
from tritstream.golden.model_sizes import QWEN25, HybridSizes, Sizes
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.quantizers.grouping import Grouping
from tritstream.host.layout.shapes import SHAPES, ModelShape, WeightForm
from tritstream.scripts.cli import app
from tritstream.scripts.console import Failure
from tritstream.scripts.reports.bench import (
    backends,
    codec,
    everything,
    forms,
    groups,
    layout,
    products,
    quantize,
    simulation,
)
from tritstream.scripts.reports.bench.layout import check_layout
from tritstream.scripts.reports.bench.measuring import peak_bytes

MODEL = Path(__file__).parents[2] / "models" / "tiny-qwen2"


def bench(*arguments):
    return CliRunner().invoke(app, ["dev", "bench", *map(str, arguments)])


def test_import(tmp_path):
    small = ("32B", "--layers", 2, "--shrink", 128, "--vocab", 64, "-d", 2)
    found = bench("import", *small, "-o", tmp_path / "o", "--work", tmp_path / "w", "--report",
                  tmp_path / "r.json")
    assert found.exit_code == 0, found.output
    report = json.loads((tmp_path / "r.json").read_text())
    packed = PackedCheckpoint(tmp_path / "o")
    assert {info.depth for info in packed.matrices.values()} == {2}
    weights = sum(math.prod(info.shape) for info in packed.matrices.values())
    assert (report["files"], report["run_files"], report["matrices"]) == (1, 1, 14)
    assert report["weights"] == report["run_weights"] == weights
    size = sum(file.stat().st_size for file in (tmp_path / "o").glob("*.safetensors"))
    assert report["peak_disk"] > report["source_bytes"] + size / 2
    assert report["projected_weights"] == 31_205_621_760
    assert "G weights of 32B would take" in found.stdout
    assert not (tmp_path / "w").exists()
    found = bench("import", *small, "-o", tmp_path / "o", "--work", tmp_path / "w")
    assert found.exit_code == 1
    assert "exists already; remove it, choose another, or force" in found.stderr


@pytest.fixture
def few_rows(monkeypatch):
    """The inner loops get ten rows; what they do in a second is not judged."""
    monkeypatch.setattr(quantize, "row_chunks", lambda *_: [slice(0, 10)])


def test_bench_quantize(tmp_path, few_rows):
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
        assert math.isclose(row["million_weights_per_second"] * row["wall"] * 1e6, row["weights"])
        assert 3e7 < row["peak"] < 2e9
    assert report["same_bytes"] is True
    assert [row["projection"] for row in report["projections"]] == ["Qwen2.5-32B", "Qwen2.5-72B"]
    assert math.isclose(report["projections"][1]["wall"] / fast["wall"],
                        report["projections"][1]["weights"] / fast["weights"])
    assert report["projections"][1]["weights"] == 80 * sum(
        math.prod(shape) for shape in QWEN25["72B"].linear().values())
    assert "projections, not measured" in done.stdout
    assert list((tmp_path / "work").iterdir()) == []


def test_bench_quantize_without_a_model(few_rows):
    done = bench("quantize", "--repeat", 1, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout).keys() == {"command", "processor", "cores", "python",
                                              "packages", "loops"}


def test_bench_methods(tmp_path):
    options = ["--rows", 20, "--columns", 100, "--group", 32, "--repeat", 1]
    done = bench("methods", *options, "-o", tmp_path / "bench.json")
    assert done.exit_code == 0, done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [row["method"] for row in report["methods"]] == [
        "tritllm-v2", "search", "search, G = 32", "search, calibrated",
        "search, calibrated, G = 32"]
    assert all(row["cpu"] > 0 and row["method"] in done.stdout for row in report["methods"])
    for wrong, error in (({"--depth": 5}, "depth must be 1..4, not 5"),
                         ({"--engine": "cuda"}, "engine must be one of numpy, numba, not cuda"),
                         ({"--group": 48}, "group must be one of 32, 64, 128, not 48")):
        done = bench("methods", *options, *(part for pair in wrong.items() for part in pair))
        assert (done.exit_code, done.stderr.strip()) == (1, f"error: {error}")


def test_bench_refuses_what_it_cannot_pack(tmp_path):
    done = bench("quantize", tmp_path, "--work", tmp_path / "work", "--repeat", 1)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {tmp_path}: is empty")


def test_bench_layout(tmp_path):
    done = bench("layout", "0.5B", "72B", "--lanes", 8, "--lanes", 64, "-o", tmp_path / "l.json")
    assert done.exit_code == 0, done.stderr
    report = json.loads((tmp_path / "l.json").read_text())
    rows = {(row["model"], row["matrix"], row["lanes"]): row for row in report["matrices"]}
    assert len(rows) == len(report["matrices"]) == 2 * 7 * 2
    narrow = rows["0.5B", "k_proj", 8]
    # Three row blocks of 51 words and one of 19, in each of 56 groups.
    assert narrow["words"] == 56 * (3 * 51 + 19)
    assert narrow["sent"] == 8 * 56 * 172 + 2 * 128 + 256 + 128 + 896
    # RESULT of four blocks, DONE of two frames, ACK of both loads.
    assert narrow["received"] == 4 * (24 + 320 + 8) + 2 * (24 + 32 + 8) + 2 * (24 + 8)
    information = 128 * 896 * math.log2(3) * (3 + 3 / 16)
    assert math.isclose(narrow["efficiency"],
                        information / 8 / (narrow["sent"] + narrow["received"]))
    assert narrow["efficiency"] > narrow["unfolded_efficiency"]
    assert all(0.98 < row["words_per_cycle"] < 1 for (_, _, lanes), row in rows.items()
               if lanes == 8)
    model = {(row["model"], row["lanes"]): row for row in report["models"]}["0.5B", 8]
    assert model["words"] == 24 * sum(rows["0.5B", matrix, 8]["words"] for matrix in (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
    assert 0.963 < model["unfolded_efficiency"] + 0.001 < model["efficiency"] < 0.9906
    assert report["checks"] == []


def test_bench_layout_of_ternary_models(tmp_path):
    done = bench("layout", "bonsai-8b", "bitnet-2b4t", "--beside", 3, "--lanes", 64,
                 "-o", tmp_path / "l.json")
    assert done.exit_code == 0, done.stderr
    report = json.loads((tmp_path / "l.json").read_text())
    rows = {(row["model"], row["depth"]): row for row in report["models"]}
    assert rows.keys() == {("Bonsai-8B", 1), ("BitNet-2B4T", 1), ("Bonsai-8B", 3),
                           ("BitNet-2B4T", 3)}
    assert rows["Bonsai-8B", 1]["form"] == "d = 1, direct scales of 128 weights"
    assert rows["BitNet-2B4T", 1]["form"] == "d = 1, one scale per matrix"
    gate, = (row for row in report["matrices"] if row["depth"] == 1
             and (row["model"], row["matrix"]) == ("Bonsai-8B", "gate_proj"))
    # 39 row blocks, of which the last has 26 row tiles, and 32 groups of 138 words.
    assert gate["words"] == 39 * 32 * 138
    ternary, coded = rows["Bonsai-8B", 1], rows["Bonsai-8B", 3]
    assert ternary["stream_bytes"] == 64 * ternary["words"]
    assert 2.9 < coded["stream_bytes"] / ternary["stream_bytes"] < 3


def test_bench_layout_checks_other_forms(tmp_path, monkeypatch):
    small = ModelShape("small", HybridSizes(4, 160, 288, 2, 1, 32, 203, 1, 2, 32),
                       WeightForm(1, 128, True), packed_head=True)
    monkeypatch.setitem(SHAPES, "small", small)
    for options in ([], ["-d", 2, "--group", 32], ["--scales", "matrix"], ["--scales", "coded"]):
        done = bench("layout", "small", "--check", "small", "--lanes", 8, *options, "--json")
        assert done.exit_code == 0, done.stderr
        checks = json.loads(done.stdout)["checks"]
        assert len(checks) == 10 and all(row["as_computed"] for row in checks)


@pytest.mark.parametrize(("arguments", "message"), [
    (["5B"], f"error: no model '5B'; there are {', '.join(SHAPES)}"),
    (["--check", "x"], f"error: no model 'x'; there are {', '.join(SHAPES)}"),
    (["-d", 5], "error: depth must be 1..4, not 5"),
])
def test_bench_layout_wrong_arguments(arguments, message):
    done = bench("layout", *arguments)
    assert (done.exit_code, done.stderr.strip()) == (1, message)


def test_a_layout_that_differs_from_the_rtl_is_reported():
    right = {"model": "0.5B", "matrix": "k_proj", "lanes": 8, "as_computed": True, "mismatches": 0}
    check_layout({"checks": [right]})
    for wrong in ({"as_computed": False}, {"mismatches": 1}):
        with pytest.raises(Failure, match=r"^0\.5B k_proj at L = 8: the RTL does not do what was "
                                          r"computed$"):
            check_layout({"checks": [right, right | wrong]})


def test_bench_codec():
    done = bench("codec", "--rows", 33, "--columns", 100, "--repeat", 1, "-d", 4, "--json")
    assert done.exit_code == 0, done.stderr
    steps = {row["step"]: row for row in json.loads(done.stdout)["steps"]}
    assert {"quantize, numpy", "quantize, numba", "pack, plain", "pack, numpy", "unpack, plain",
            "unpack", "import: encode"} < steps.keys()
    assert all(row["million_weights_per_second"] > 0 for row in steps.values())


def test_bench_codec_notices_other_bytes(monkeypatch):
    monkeypatch.setattr(codec, "pack", lambda *_: np.zeros((7, 7, 51), np.uint8))
    done = bench("codec", "--rows", 33, "--columns", 100, "--repeat", 1)
    assert (done.exit_code, done.stderr) == (
        1, "error: plain numpy packs or unpacks the matrix to something else\n")


def test_bench_simulation_and_all(tmp_path, monkeypatch):
    """Every part of `bench all`, on a model of one small layer."""
    small = Sizes(2, 64, 96, 2, 1, 32, 100)
    for module in (forms, layout, products, simulation, everything):
        monkeypatch.setattr(module, "QWEN25", {"0.5B": small}, raising=False)
    monkeypatch.setitem(SHAPES, "qwen2.5-0.5b",
                        ModelShape("Qwen2.5-0.5B", small, WeightForm()))
    monkeypatch.setattr(layout, "LANES", [8])
    monkeypatch.setattr(everything, "LANES", [8])
    monkeypatch.setattr(simulation, "_LANES", [8])
    monkeypatch.setattr(everything, "measure_codec",
                        lambda depth: codec.measure_codec((33, 64), depth, 1))
    done = bench("all", "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert found.keys() == {"layout", "codec", "simulation", "projected"}
    assert [row["as_computed"] for row in found["layout"]["checks"]] == [True] * 7
    device, = found["simulation"]["devices"]
    assert device["rows"] == sum(rows for rows, _ in small.linear().values())
    assert device["token_cycles"] == 2 * device["cycles"]
    assert all(row["roofline"] > row["tokens"] for row in found["projected"])
    assert "PROJECTED" in done.stdout


def test_bench_simulation_tells_a_wrong_device(monkeypatch):
    monkeypatch.setattr(simulation, "product", wrong_product)
    done = bench("simulation", "0.5B", "--lanes", 8, "--repeat", 1)
    assert (done.exit_code, done.stderr) == (
        1, "error: L = 8: the simulated device differs from golden\n")


def wrong_product(name, _, depth):
    matrix, x, expected = products.product(name, (10, 32), depth)
    return matrix, x, expected + 1


def test_the_peak_is_of_this_process_alone():
    code = ("from tritstream.scripts.reports.bench.measuring import peak_bytes\n"
            "print(peak_bytes())")
    held = np.ones(1 << 27, np.int64)       # 1 GB, which is more than the process itself takes
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1e7 < int(done.stdout) < 5e8 < held.nbytes < peak_bytes()


def test_bench_backends(tmp_path):
    """Two backends, each in a process of its own, and then one in this process."""
    pack_checkpoint(MODEL, tmp_path / "packed", 3)
    done = bench("backends", tmp_path / "packed", "--backend", "golden", "--backend", "cpu",
                 "--prompt", 9, "--tokens", 3, "-o", tmp_path / "b.json")
    assert done.exit_code == 0, done.stderr
    report = json.loads((tmp_path / "b.json").read_text())
    matrices = PackedCheckpoint(tmp_path / "packed").matrices.values()
    assert report["weights"] == sum(math.prod(info.shape) for info in matrices)
    assert 8 * report["packed_bytes"] / report["weights"] < 5.4
    assert report["packages"].keys() == {"tritstream", "numpy", "numba", "torch", "transformers"}
    golden, cpu = report["backends"]
    assert (golden["backend"], cpu["backend"]) == ("golden", "cpu")
    assert golden["tokens"] == cpu["tokens"] and len(cpu["tokens"]) == 4
    for row in (golden, cpu):
        assert all(row[name] > 0 for name in (
            "tokens_per_second", "tokens_per_cpu_second", "prompt_tokens_per_second",
            "prompt_tokens_per_cpu_second", "load_seconds"))
        assert all(1e8 < row[name] < 2e9 for name in ("resident_bytes", "peak_bytes"))
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["golden", "cpu"]
    alone = bench("backends", tmp_path / "packed", "--backend", "reference", "--prompt", 9,
                  "--tokens", 3, "--json")
    assert alone.exit_code == 0, alone.stderr
    assert json.loads(alone.stdout)["backends"][0]["backend"] == "reference"


@pytest.mark.parametrize("names", [["gpu"], ["gpu", "golden"]])
def test_bench_backends_that_do_not_exist(names, tmp_path):
    pack_checkpoint(MODEL, tmp_path / "packed", 1)
    done = bench("backends", tmp_path / "packed", *(
        argument for name in names for argument in ("--backend", name)))
    prefix = "gpu: " if len(names) > 1 else ""
    assert (done.exit_code, done.stderr) == (
        1, f"error: {prefix}backend must be reference, golden, cpu, cuda or an object of class "
           "Backend, not 'gpu'\n")


def test_bench_backends_tells_of_other_tokens():
    rows = [{"backend": name, "tokens": tokens} for name, tokens in (
        ("reference", [9, 9]), ("golden", [1, 2]), ("cpu", [1, 2]), ("cuda", [1, 3]))]
    backends.check_tokens(rows[:3])
    backends.check_tokens(rows[:1])
    with pytest.raises(Failure, match=r"^cuda generates other tokens than golden$"):
        backends.check_tokens(rows)


def test_bench_groups(tmp_path, monkeypatch):
    """Of two groupings at two depths, on small matrices and on the shipped model."""
    sources = bench_two_groupings(tmp_path, monkeypatch)
    assert list(sources) == ["normal", "Student's t", "shipped model"]
    for name, rows in sources.items():
        assert [(row["scales"], row["group"], row["depth"]) for row in rows] == [
            ("coded", 16, 1), ("coded", 16, 2), ("direct", 64, 1), ("direct", 64, 2)]
        error = {(row["scales"], row["depth"]): row["figures"]["squared error"] for row in rows}
        assert error["coded", 1]["gain"] == error["coded", 2]["gain"] == 0
        assert error["direct", 1]["gain"] is None       # fewer bits than 16 coded weights can have
        assert error["direct", 2]["value"] < error["direct", 1]["value"] < 1
        assert all(list(row["figures"]) == ["squared error"] for row in rows), name
    drawn = np.random.default_rng(0).standard_normal((20, 128)).astype(np.float32)
    expected = tritstream.relative_error(drawn, tritstream.quantize(drawn, 2, group=64,
                                                                    scales="direct"))
    assert sources["normal"][3]["figures"]["squared error"]["value"] == pytest.approx(expected)
    # 4 row tiles of 128 columns, and two float16 per row.
    assert sources["normal"][3]["stored_bits"] == 8 * (4 * 128 * 2 + 20 * 2 * 2) / 2560


@pytest.mark.long
def test_bench_groups_with_a_text(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("She had always wished to be a good sister, and now she was. " * 20)
    sources = bench_two_groupings(tmp_path, monkeypatch, "--text", text, "--tokens", 130)
    found = [row["figures"]["KLD, text.txt"] for row in sources["shipped model"]]
    assert found[1]["value"] < found[0]["value"] and found[3]["value"] < found[2]["value"]
    assert found[1]["gain"] == 0 and found[1]["error"] > 0


def bench_two_groupings(path, monkeypatch, *arguments):
    """The figures of groups of 16 and of 64, at two depths, by source."""
    monkeypatch.setattr(groups, "_GROUPINGS", (Grouping(), Grouping(64, "direct")))
    monkeypatch.setattr(groups, "DEPTHS", (1, 2))
    done = bench("groups", "--rows", 20, "--columns", 128, *arguments, "-o", path / "g.json")
    assert done.exit_code == 0, done.stderr
    assert "two depths mixed" in done.stdout
    return json.loads((path / "g.json").read_text())["sources"]


def test_figures_at_equal_bits():
    def row(scales, group, bits, value):
        return {"scales": scales, "group": group, "stored_bits": bits,
                "figures": {"error": {"value": value}}}

    rows = [row("coded", 16, 2, 8.0), row("coded", 16, 4, 1.8), row("direct", 64, 3, 2.5),
            row("direct", 32, 3.5, 4.0), row("coded", 64, 1, 9.0), row("coded", 32, 4.5, 1.5)]
    groups.compare(rows)
    gains = [one["figures"]["error"]["gain"] for one in rows]
    # Half of the weights with each of two depths have 3 bits and an error of 4.9.
    assert gains[:3] == [0, 0, pytest.approx(10 * math.log10(4.9 / 2.5))]
    assert gains[3] == pytest.approx(10 * math.log10((8 / 4 + 1.8 * 3 / 4) / 4))
    assert gains[4:] == [None, None]
    assert [one["figures"]["error"]["best"] for one in rows] == [
        False, True, True, False, True, True]


def test_bench_host_path(tmp_path):
    """Every result equals that of the reference model, or the command fails."""
    done = bench("host-path", "--layers", 1, "--lanes", 64, "--repeat", 1,
                 "-o", tmp_path / "path.json")
    assert done.exit_code == 0, done.stderr
    report = json.loads((tmp_path / "path.json").read_text())
    assert [(row["lanes"], row["stored"]) for row in report["paths"]] == [(64, False), (64, True)]
    for row in report["paths"]:
        assert row["round_trips_per_layer"] == 4
        assert 0 < row["cpu_seconds"] <= row["median_cpu_seconds"]
    # Without folding, each of seven matrices has its scales and a frame; four vectors are loaded.
    assert report["paths"][1]["requests"] == 1 + 7 + 4 + 7
    assert "on the board" in done.stdout


def test_bench_host_path_of_an_unknown_size():
    done = bench("host-path", "1B")
    assert done.exit_code == 1
    assert "no size '1B' of Qwen2.5" in done.stderr
