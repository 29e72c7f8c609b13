"""Commands on boards with memory, against a simulated one; its bandwidth in full is long."""

import json

import pytest

from tritstream.host.layout.projection import project
from tritstream.host.layout.shapes import SHAPES, WeightForm
from tritstream.hw.soc.boards import find_board
from tritstream.scripts.hardware.soc import projections
from tritstream.sim.cable import Cable

from support.cli_helpers import MODEL, command_fails, fails, run_command, tritstream
from support.soc_cases import served, simulated

LAYER = "model.layers.0.*"
#: Seconds: a simulated board is slow.
OPTIONS = "bind=0,repeat=0.3"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    code, _, err = tritstream("quantize", MODEL, "-o", path, "-d", 3)
    assert code == 0, err
    return path


@pytest.fixture
def port(monkeypatch):
    """Port of a simulated board; ``port.bytes`` counts what was sent to it."""
    class Port(int):
        bytes = 0

    with simulated() as board, served(board) as number:
        port = Port(number)
        send = Cable.send

        def count(cable, datagram):
            port.bytes += len(datagram)
            send(cable, datagram)

        monkeypatch.setattr(Cable, "send", count)
        yield port


def test_load_and_run(packed, port):
    device = f"udp://127.0.0.1:{port},{OPTIONS}"
    code, out, err = tritstream("load", packed, "--device", device, "--matrices", LAYER, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["matrices"], report["written"], report["kept"]) == (7, 7, 0)
    assert report["bytes"] > 130_000
    assert port.bytes > report["bytes"]

    port.bytes = 0
    code, out, err = tritstream("run", packed, "--device", device, "--matrices", LAYER, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["totals"]["mismatches"] == 0
    assert found["totals"]["compared"] == 1152 + 128
    # Activations, scales, descriptors and requests to read: but not the weights.
    words = sum(matrix["stream_bytes"] for matrix in found["matrices"])
    assert words == report["bytes"] and port.bytes < words / 2

    code, out, err = tritstream("load", packed, "--device", device, "--matrices", LAYER)
    assert code == 0, err
    assert "7 matrices on udp://" in out and "0 written, 7 were there" in out


def test_load_wants_a_board_and_a_matrix(packed):
    assert fails("load", packed, "--device", "sim:lanes=4") == (
        "sim:lanes=4: has no memory of its own; load needs a board, udp://HOST, or a "
        "memory-mapped core")
    assert fails("load", packed, "--device", "udp://127.0.0.1", "--matrices", "x") == (
        f"{packed}: no matrix fits 'x'; `tritstream inspect` lists them")


def test_a_wrong_shape():
    assert fails("hw", "bandwidth", "--shape", "12") == (
        "--shape must be NxK or one of 0.5B, 1.5B, 3B, 7B, 14B, 32B, 72B, not '12'")


def test_a_wrong_board():
    with pytest.raises(ValueError, match=r"^unknown board with memory 'ulx4s'; use one of ulx3s-85f"
                                         r", ecpix5-85, orangecrab-25f, colorlight-i5$"):
        find_board("ulx4s")


def test_projection_counts_what_is_stored_and_sent():
    one = project(SHAPES["qwen2.5-0.5b"], 8, 512 << 20, 571e6, write=1e-7, read=1e-7)
    # Words of docs/simulation.md at L = 8, and rows of its 24 layers.
    assert one.layers == 28_984_320 * 8
    assert one.fits and one.fits_with_head
    assert one.seconds == pytest.approx(28_984_320 * 8 / 571e6)
    assert one.link_seconds > 2 * 304_128 * 1e-7
    assert one.tokens == pytest.approx(1 / (one.seconds + one.link_seconds))
    assert one.tokens_with_head < one.tokens
    assert not project(SHAPES["qwen2.5-7b"].in_form(WeightForm(1)), 8, 512 << 20, 571e6).fits


def test_projections_are_those_of_the_reports():
    assert {one["board"] for one in projections()} == {
        "ULX3S-85F, 32 MB", "ULX3S-85F, 64 MB", "OrangeCrab-25F, 128 MB", "ECPIX-5 85F, 512 MB"}


def test_projections_of_published_models(tmp_path):
    code, out, err = run_command("hw", "project", "bonsai-1.7b", "Bonsai-8B", "--rate", 19.2,
                                 "--report", tmp_path / "p.json")
    assert code == 0, err
    found = {(one["board"], one["model"]): one
             for one in json.loads((tmp_path / "p.json").read_text())}
    # 1.7B fits one board, and any model fits a memory of a given rate.
    assert found.keys() == {("ECPIX-5 85F, 512 MB", "Bonsai-1.7B"),
                            ("memory of 19.2 GB/s", "Bonsai-1.7B"),
                            ("memory of 19.2 GB/s", "Bonsai-8B")}
    one = found["memory of 19.2 GB/s", "Bonsai-8B"]
    assert one["tokens_with_head"] == pytest.approx(
        19.2e9 / (one["layer_bytes"] + one["head_bytes"]))
    assert 8 * one["layer_bytes"] / 6_945_767_424 == pytest.approx(1.725, rel=0.02)
    assert "PROJECTED" in out


@pytest.mark.parametrize(("arguments", "message"), [
    (["bonsai"], "no model 'bonsai'; there are qwen2.5-0.5b, "),
    (["bonsai-8b", "--rate", 0], "--rate must be above 0")])
def test_wrong_projections(arguments, message):
    assert command_fails("hw", "project", *arguments).startswith(message)


def bandwidth(*arguments):
    code, out, err = tritstream("hw", "bandwidth", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.long
@pytest.mark.parametrize("memory, share", [("mt48lc16m16", 0.97), ("mt41k256m16", 0.95)])
def test_bandwidth_of_a_matrix(memory, share):
    report = bandwidth("--memory", memory)
    assert (report["rows"], report["mismatches"]) == (896, 0)
    assert report["gemv_share"] > share
    assert report["refreshes"] >= report["refreshes_due"] - 8
    assert sum(report["causes"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.long
def test_bandwidth_of_a_large_matrix():
    report = bandwidth("--shape", "5120x5120")
    assert (report["rows"], report["mismatches"]) == (5120, 0)
    assert report["gemv_share"] > 0.95


@pytest.mark.long
@pytest.mark.parametrize("memory", ["as4c32m16", "m12l64322a", "mt41k64m16", "mt41k256m16"])
def test_every_command_keeps_the_timing(memory):
    report = bandwidth("--memory", memory, "--check", "--shape", "100x4864", "--shape", "90x512",
                       "--shape", "512x96", "--depth", "2")
    assert (report["mismatches"], report["violations"]) == (0, 0)


@pytest.mark.long
def test_another_model_takes_the_place_of_the_first(packed, port):
    device = f"udp://127.0.0.1:{port},{OPTIONS}"
    for matrices, count in ((LAYER, 7), ("model.layers.1.mlp.*", 3)):
        code, out, err = tritstream("load", packed, "--device", device, "--matrices", matrices)
        assert code == 0, err
        assert f"{count} written, 0 were there" in out


@pytest.mark.long
def test_text_from_a_board(packed, port):
    """A model in memory; every token's products by the board."""
    device = f"udp://127.0.0.1:{port},{OPTIONS}"
    code, _, err = tritstream("load", packed, "--device", device)
    assert code == 0, err
    texts = []
    for backend in (("--device", device), ("--backend", "golden")):
        code, out, err = tritstream("generate", packed, "--prompt", "It was", "--tokens", 4,
                                    "--json", *backend)
        assert code == 0, err
        texts.append(json.loads(out)["text"])
    assert texts[0] == texts[1]


@pytest.mark.long
@pytest.mark.parametrize("board", ["ulx3s-85f", "ecpix5-85", "colorlight-i5"])
def test_bitstreams(tmp_path, board):
    code, out, err = tritstream("hw", "soc", board, "-o", tmp_path, "--json")
    assert code == 0, err
    built = json.loads(out)
    assert (tmp_path / "top.bit").stat().st_size == built["bitstream"]["bytes"] > 100_000
    assert all(met["achieved"] >= met["constraint"] for met in built["clocks"].values())
