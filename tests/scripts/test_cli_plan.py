"""The command plan: what it prints, what it refuses, and its table in the pages."""

import json

import pytest

from tritstream.golden.model_sizes import QWEN25
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.layout.shapes import SHAPES
from tritstream.scripts.reports.tables.pages import ROOT

from support.cli_helpers import MODEL, fails, tritstream

SHAPE = ("plan", "--shape", "Qwen2.5-0.5B", "--target")


def planned(*arguments):
    code, out, err = tritstream("plan", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_packed_model(tmp_path):
    code, _, err = tritstream("quantize", MODEL, "-o", tmp_path / "d3", "-d", 3)
    assert code == 0, err
    one, = planned(tmp_path / "d3", "--target", "kv260")
    assert (one["model"], one["depth"], one["cards"]) == (str(tmp_path / "d3"), "3", 1)
    checkpoint = PackedCheckpoint(tmp_path / "d3")
    assert one["packed"] == sum(checkpoint.tensors_of(name)[0].size for name in checkpoint.matrices)
    assert sum(one["channel_bytes"]) == one["words"] >= one["packed"]


def test_the_text_of_one_plan():
    code, out, err = tritstream(*SHAPE, "ecpix5-85")
    assert code == 0, err
    assert out.startswith("PROJECTED by the formula of the cycles")
    for line in ("model        Qwen2.5-0.5B, d = 3: 168 matrices, 228.6 MB read per token",
                 "target       1 x LambdaConcept ECPIX-5 85F: 1 x 8 lanes at 75 MHz",
                 "memory       231.9 MB with padding, 231.9 to 231.9 of 535.3 MB per channel",
                 "round trips  96 per token, whose delay is not counted",
                 "tokens/s     1.95 projected, 2.62 roofline",
                 "0           0  231.9",
                 "  link       simulated: hw/soc/reports/link.json"):
        assert f"{line}\n" in out


def test_several_plans_are_a_table(tmp_path):
    report = tmp_path / "plans.json"
    code, out, err = tritstream(*SHAPE, "kv260", "--target", "ecpix5-85", "-d", 2, "-d", 1,
                                "--report", report)
    assert code == 0, err
    assert len(out.splitlines()) == 2 + 1 + 4
    found = json.loads(report.read_text())
    assert [(one["depth"], one["target"]["name"]) for one in found] == [
        ("2", "kv260"), ("2", "ecpix5-85"), ("1", "kv260"), ("1", "ecpix5-85")]


def test_options_of_a_shape():
    tiles, = planned(*SHAPE[1:], "kv260", "-d", 1)
    direct, = planned(*SHAPE[1:], "kv260", "-d", 1, "--group", 128, "--scales", "direct", "--head")
    assert tiles["matrices"] + 1 == direct["matrices"]
    single, = planned(*SHAPE[1:], "kv260", "-d", 1, "--group", 0, "--scales", "direct")
    assert single["packed"] < 0.9 * tiles["packed"]
    layers, = planned(*SHAPE[1:], "ecpix5-85", "--cards", 4, "--split", "layers")
    rows, = planned(*SHAPE[1:], "ecpix5-85", "--cards", 4)
    assert layers["channel_bytes"] == [6 * 231_874_560 // 24] * 4
    # One sequence uses one card at a time.
    assert layers["seconds"] == pytest.approx(4 * rows["seconds"], rel=0.03)


@pytest.mark.parametrize("arguments, message", [
    (("plan", "--target", "v80"), "give either PACKED or --shape"),
    (("plan", "x", "--shape", "y", "--target", "v80"), "give either PACKED or --shape"),
    (("plan", "--shape", "Qwen2.5-7B"),
     "give a --target: kv260, u280, u55c, v80, ecpix5-85, ulx3s-85f, or a TOML or JSON file"),
    ((*SHAPE, "v80", "--scales", "float"), "scales must be coded or direct, not 'float'"),
    ((*SHAPE, "v80", "--split", "heads"), "split must be rows or layers, not 'heads'"),
    ((*SHAPE, "v80", "-d", 5), "depth must be 1..4, not 5"),
    ((*SHAPE, "v80", "--group", 24),
     "group must be a multiple of 16, not 24"),
    ((*SHAPE, "v80", "--group", 0),
     "one scale per matrix is a direct scale; coded scales need a group"),
    (("plan", "--shape", "Qwen2.5-14B", "--target", "kv260", "--cards", 1),
     "Qwen2.5-14B, d = 3: 8423.3 MB of weights and their padding do not fit 3751.8 MB of 1 card "
     "kv260; what fits: 3 cards kv260, or depth 1 on 1 card kv260"),
])
def test_what_is_refused(arguments, message):
    assert fails(*arguments) == message


def test_models_that_were_trained_ternary():
    """In their own form: Bonsai with a ternary head, and layers of two kinds."""
    one, = planned("--shape", "Bonsai-27B", "--target", "kv260")
    assert (one["depth"], one["cards"]) == ("1", 2)
    # 48 layers with linear attention, 16 with attention, four steps each, and the head.
    assert (one["matrices"], one["round_trips"]) == (48 * 6 + 16 * 7 + 1, 257)
    bits = 8 * one["packed"] / SHAPES["bonsai-27b"].weights
    assert bits == pytest.approx(1.6 + 16 / 128, rel=0.001)


def test_the_kept_table_has_every_size():
    found = json.loads((ROOT / "docs" / "figures" / "plan.json").read_text())
    assert {(one["model"], one["depth"], one["target"]["name"]) for one in found} == {
        (f"Qwen2.5-{size}", depth, target) for size in QWEN25 for depth in "23"
        for target in ("kv260", "u55c", "v80")}
    one = next(one for one in found if one["model"] == "Qwen2.5-0.5B")
    again, = planned("--shape", "Qwen2.5-0.5B", "-d", one["depth"], "--target",
                     one["target"]["name"])
    assert again == one
