"""Pictures: all can be drawn, those in docs/ show current data, wrong inputs are refused."""

import re
from importlib import import_module
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from tritstream.scripts.cli import app
from tritstream.scripts.reports.plot import command, panels, scene
from tritstream.scripts.reports.plot.command import PICTURES
from tritstream.scripts.reports.plot.reading import read
from tritstream.scripts.reports.plot.style import digest, drawn_from
from tritstream.scripts.reports.plot.traces import read_traces
from tritstream.scripts.reports.tables.pages import ROOT

from support.golden_helpers import message

FIGURES = ROOT / "docs" / "figures"


def plot(*arguments):
    done = CliRunner().invoke(app, ["dev", "plot", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plot")


@pytest.fixture(scope="module")
def waves(folder):
    """Data of the waveform."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return panels.collect(ROOT)


@pytest.fixture(scope="module")
def drawn(folder, waves):
    """The directory with all pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tritstream.scripts.reports.plot.waveform.collect", lambda root: waves)
        assert plot("-o", folder) == (0, "".join(f"{folder / name}.svg\n" for name in PICTURES))
    return folder


def test_pictures_of_the_docs_are_of_the_data_that_is_kept(drawn):
    page = (ROOT / "docs" / "measurements.md").read_text()
    for name in PICTURES:
        fresh, kept = drawn / f"{name}.svg", FIGURES / f"{name}.svg"
        assert drawn_from(fresh) is not None
        assert drawn_from(kept) == drawn_from(fresh), (
            f"run `tritstream dev plot {name} -o docs/figures` and look at it")
        assert f"(figures/{name}.svg)" in page


def test_pictures_name_no_day_have_text_and_are_the_same_again(drawn, tmp_path):
    for name in PICTURES:
        text = (drawn / f"{name}.svg").read_text()
        ElementTree.fromstring(text)
        assert import_module(f"tritstream.scripts.reports.plot.{name}").TITLE in text
        assert "<dc:date>" not in text and "<text" in text and "sans-serif" in text
    assert plot("divergence", "divergence", "-o", tmp_path) == (
        0, f"{tmp_path / 'divergence.svg'}\n")
    assert (tmp_path / "divergence.svg").read_bytes() == (drawn / "divergence.svg").read_bytes()


def test_png(tmp_path):
    assert plot("divergence", "--format", "png", "-o", tmp_path)[0] == 0
    data = (tmp_path / "divergence.png").read_bytes()
    assert data.startswith(b"\x89PNG") and drawn_from(FIGURES / "divergence.svg").encode() in data


def test_stalls_that_are_shown_are_those_the_device_counts(waves):
    for panel, count in zip(waves["panels"][1:], (5, 10), strict=True):
        assert sum(mark["stop"] - mark["start"] for mark in panel["marks"]) == count
        assert panel["title"].endswith(f"; DONE counts {count} cycles")


def test_sums_that_are_shown_add_up(waves):
    rows = {row["name"]: row["values"] for row in waves["panels"][0]["rows"]}
    rest = rows["scale unit: turn (row.lane)"].index("0.0")
    total = int(rows["lane 0, row 0: sum"][rest])
    found = {name: [value for value in rows[f"scale unit: {name}"] if value is not None]
             for name in ("mantissa", "product", "row sum")}
    assert int(found["product"][0]) == total * int(found["mantissa"][0]) != 0
    assert rows["lane 0, row 0: sum"][rest:rest + 3] == [str(total)] * 3
    assert rows["row sum into a result bank"].index(1) == next(
        cycle for cycle, value in enumerate(rows["scale unit: row sum"]) if value is not None)


def test_a_waveform_of_wrong_rows_is_not_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "TritDevice", lambda config: None)
    monkeypatch.setattr(scene, "simulate", lambda *all, vcd, **more: vcd.write_bytes(b""))
    with pytest.raises(ValueError, match="^the simulated rows differ from golden: the waveform is "
                                         "not drawn$"):
        scene.record(tmp_path / "some.vcd")


def test_digest_changes_with_the_data():
    assert digest({"a": 1.0}) == digest({"a": 1.0}) != digest({"a": 1.5})


def test_wrong_options_are_refused(tmp_path, monkeypatch):
    assert plot("areas") == (1, "error: there is no picture 'areas', but area, divergence, "
                                "arena, roofline, efficiency, waveform\n")
    assert plot("--format", "gif") == (1, "error: --format must be svg or png, not 'gif'\n")
    (tmp_path / "file").touch()
    assert plot("area", "-o", tmp_path / "file") == (
        1, f"error: {tmp_path / 'file'}: cannot write area.svg: File exists; move what is there "
           "and run the same command again\n")
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert plot("area") == (
        1, "error: matplotlib is missing: pip install 'tritstream[plot]'\n")


def test_reports_that_cannot_be_drawn_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    path = tmp_path / "docs" / "figures" / "divergence.json"
    remedy = "`git restore docs/figures/divergence.json` makes it\n"
    assert plot("divergence") == (1, f"error: {path}: not there; {remedy}")
    path.parent.mkdir(parents=True)
    for text, fault in (("{", "not JSON: Expecting property name enclosed in double quotes: line 1 "
                             "column 2 (char 1)"),
                       ("{}", "lacks 'models'"),
                       ("[]", "not such a report: list indices must be integers or slices, not "
                              "str")):
        path.write_text(text)
        assert plot("divergence") == (1, f"error: {path}: {fault}; {remedy}")


def test_a_layout_without_matrices_is_refused(tmp_path):
    efficiency = import_module("tritstream.scripts.reports.plot.efficiency")
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    path = tmp_path / "docs" / "figures" / "layout.json"
    path.write_text('{"depth": 3, "matrices": [], "models": []}')
    with pytest.raises(ValueError, match=message(
            f"{path}: lacks 'matrices'; `tritstream dev bench layout -o docs/figures/layout.json` "
            "makes it")):
        efficiency.collect(tmp_path)


def test_efficiencies_without_folding_need_not_be_there(tmp_path):
    efficiency = import_module("tritstream.scripts.reports.plot.efficiency")
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    kept = read(FIGURES / "layout.json", lambda report: report, "")
    bare = {"depth": 3, **{kind: [{key: value for key, value in row.items()
                                   if not key.startswith("unfolded")} for row in kept[kind][:28]]
                           for kind in ("matrices", "models")}}
    (tmp_path / "docs" / "figures" / "layout.json").write_text(
        re.sub("'", '"', str(bare)))
    model, = efficiency.collect(tmp_path)["models"]
    assert [row["name"] for row in model["rows"]] == [
        "q, o  896×896", "k, v  128×896", "gate, up  4864×896", "down  896×4864", "whole model"]
    assert all(value == before for row in model["rows"] for _, value, before in row["points"])


HEAD = """\
$timescale 1 ns $end
$scope module top $end
$var wire 1 ! clk $end
$var wire 1 " $signal $end
$scope module inner $end
$var wire 4 # \\sum.low $end
$upscope $end
$upscope $end
$enddefinitions $end
"""


@pytest.fixture
def vcd(tmp_path):
    def write(text):
        (tmp_path / "some.vcd").write_text(HEAD + text)
        return tmp_path / "some.vcd"
    return write


def test_traces_are_the_values_before_each_edge(vcd):
    path = vcd("#0\n0!\nb0101 #\n0\"\n#5\n1!\nb0110 #\n#10\n0!\n#12\nb1111 #\n#15\n1!\nb0 #\n#20\n")
    assert read_traces(path, "top.clk", ["top.inner.sum.low", "top.$signal"]) == {
        "top.inner.sum.low": [5, 15], "top.$signal": [0, 0]}


@pytest.mark.parametrize("text, signal, fault", [
    ("#0\n0!\n#5\n1!\n#6\n", "top.inner.sum.high", "no signal top.inner.sum.high"),
    ("#0\n0!\nbx #\n#5\n1!\n#6\n", "top.inner.sum.low", "top.inner.sum.low is 'x', not a number"),
    ("#0\n0!\n#5\n1!\n#6\n", "top.inner.sum.low", "top.inner.sum.low is None, not a number"),
])
def test_wrong_traces_are_refused(vcd, text, signal, fault):
    path = vcd(text)
    with pytest.raises(ValueError, match=message(f"{path}: {fault}")):
        read_traces(path, "top.clk", [signal])


def test_a_file_that_is_not_a_vcd_is_refused(tmp_path):
    path = tmp_path / "some.vcd"
    path.write_text("hello")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: not a VCD file: "):
        read_traces(path, "top.clk", [])


def test_methods_are_compared_at_equal_bits():
    tables = import_module("tritstream.scripts.reports.tables.comparisons")
    models = read(FIGURES / "divergence.json", lambda report: report["models"], "")
    against = [tables.reference(model, models) for model in models]
    assert [one and one["depths"] for one in against] == [
        *[[2]] * 5, None, None, *[[3]] * 5, *[[4]] * 4]
    assert np.isclose(tables.density({"cells": {"TRELLIS_COMB": 5086}, "trit_macs": 80,
                                      "fmax_mhz": 90.6}), (63.575, 1.4251)).all()
