"""Methods, calibrations, depths and budgets on the command line."""

import json
import signal
from pathlib import Path

import pytest
import torch

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.quantizers.moments import Moments, write_moments
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.self_text import self_windows
from tritstream.scripts.weights.calibrate import calibrate, moments_file
from tritstream.scripts.weights.calibration_texts import calibration_texts, read_windows
from tritstream.scripts.weights.checkpoints import inspect, verify
from tritstream.scripts.weights.quantize import quantize
from tritstream.scripts.weights.token_windows import text_windows

from support.forked import COMMANDS, run_forked
from support.golden_helpers import contents
from support.model_helpers import MODEL, PROMPT, greedy, logits


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Cache below the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(f"{PROMPT}, and now she was. " * 200)
    return str(path)


def refused(capsys, command, *arguments, **options):
    """The one line that the command says on the way out."""
    with pytest.raises(SystemExit, match="^1$"):
        command(*arguments, **options)
    return capsys.readouterr().err.removeprefix("error: ").removesuffix("\n")


def depths(path):
    return {name: info.depth for name, info in PackedCheckpoint(path).matrices.items()}


def test_a_text_calibrates_once_for_all_depths(tmp_path, text, capsys):
    options = {"method": "search", "calibration": [text], "calibration_tokens": 1200,
               "as_json": True}
    quantize(MODEL, tmp_path / "d2", depth=2, **options)
    kept, = (tmp_path / "build" / "calibration").iterdir()
    time = kept.stat().st_mtime_ns
    quantize(MODEL, tmp_path / "d1", depth=1, **options)
    assert kept.stat().st_mtime_ns == time
    fields = PackedCheckpoint(tmp_path / "d2").config["quantization_config"]
    assert (fields["codec"], fields["depth"]) == ("search", 2)
    assert [one["text"] for one in fields["calibration"]["texts"]] == ["text.txt", "random"]
    assert fields["calibration"]["tokens"] == 1200 - 1200 % 512
    # By the file itself, the same bytes.
    quantize(MODEL, tmp_path / "again", depth=2, method="search", calibration=[str(kept)])
    assert contents(tmp_path / "again") == contents(tmp_path / "d2")


def test_another_text_or_count_calibrates_anew(tmp_path, text, monkeypatch):
    # Only the decision to calibrate is tested, so this writes only the settings.
    def settings_only(_, model, output, texts, tokens, **options):
        write_moments(output, {}, {"settings": [[str(one) for one in texts], tokens]})

    monkeypatch.setattr("tritstream.scripts.weights.calibrate._write", settings_only)
    first = moments_file(MODEL, [text], 512)
    assert moments_file(MODEL, [text], 512) == first
    assert moments_file(MODEL, [text], 1024) != first
    (tmp_path / "text.txt").write_text("Something else entirely. " * 90)
    assert moments_file(MODEL, [text], 512) != first
    assert Moments(moments_file(MODEL, ["random"], 512)).made_of == {
        "settings": [["random"], 512]}
    both = moments_file(MODEL, ["self", text], 512)
    assert both != moments_file(MODEL, ["self"], 512)
    assert moments_file(MODEL, ["self", text, text, "random"], 512) == both


def test_damaged_moments_and_losses_are_made_again(tmp_path, text, monkeypatch):
    from tritstream.scripts.weights.depths import _read_kept
    made = []

    def write(source, model, output, texts, tokens, force):
        made.append(output)
        write_moments(output, {}, {})

    monkeypatch.setattr("tritstream.scripts.weights.calibrate._write", write)
    path = moments_file(MODEL, [text], 512)
    path.write_bytes(path.read_bytes()[:-1])
    assert moments_file(MODEL, [text], 512) == path and len(made) == 2
    assert moments_file(MODEL, [text], 512) == path and len(made) == 2
    losses = tmp_path / "losses"
    for damaged in ("", "{", "[]", '{"a": 1}', '{"a": [1, 2, 3]}', '{"a": [1, 2, 3, "4"]}'):
        losses.write_text(damaged)
        assert _read_kept(losses) == {} and not losses.exists()
    losses.write_text('{"a": [1, 2.5, 3, 4]}')
    assert _read_kept(losses) == {"a": [1, 2.5, 3, 4]}


def test_calibrate_replaces_moments_only(tmp_path, text, capsys):
    thesis = tmp_path / "thesis.docx"
    thesis.write_bytes(b"years of work")
    assert refused(capsys, calibrate, MODEL, thesis, [text], 512, force=True) == (
        f"{thesis}: is not a file of moments, so it is not replaced; choose another, or remove it "
        "yourself")
    assert thesis.read_bytes() == b"years of work"


def test_calibrate_writes_what_quantize_takes(tmp_path, text, capsys):
    calibrate(MODEL, tmp_path / "m.safetensors", [text], 1024, as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert [one["text"] for one in report["texts"]] == ["text.txt", "random"]
    assert (report["tokens"], report["layers"]) == (1024, 29)
    moments = Moments(tmp_path / "m.safetensors")
    # The head, by the name of the embedding it shares.
    assert moments.of("model.embed_tokens", (1024, 128)).results.shape == (1024,)
    assert refused(capsys, calibrate, MODEL, tmp_path / "m.safetensors", [text], 512) == (
        f"{tmp_path / 'm.safetensors'}: exists already; remove it, choose another, or force")
    calibrate(MODEL, tmp_path / "m.safetensors", ["random"], 512, force=True)
    assert capsys.readouterr().out == (
        f"calibration of 29 layers, 512 tokens of random read: {tmp_path / 'm.safetensors'}\n")


def test_texts_have_equal_shares(text):
    model, texts = load_model(MODEL), calibration_texts([text, "self"])
    assert [one.record["text"] for one in texts] == ["text.txt", "self", "random"]
    assert [len(one.record["text_sha256"] or "") for one in texts] == [64, 0, 0]
    windows = read_windows(MODEL, texts, 3 * 1024, lambda: model)
    assert [len(window) for window in windows] == [512] * 6
    assert torch.equal(windows[0], text_windows(MODEL, Path(text))[0])
    tokenizer = load_tokenizer(MODEL)
    own = self_windows(model, len(tokenizer), tokenizer.all_special_ids, 512, 2)
    assert all(map(torch.equal, windows[2:4], own))


def test_a_calibration_file_is_used_alone(tmp_path, text, capsys):
    assert refused(capsys, quantize, MODEL, tmp_path / "o", calibration=[text, "m.safetensors"]
                   ) == ("m.safetensors: is a calibration file, which is used alone; give it "
                         "without other calibrations, or give the texts of all")


def test_too_few_tokens(tmp_path, capsys):
    short = tmp_path / "short.txt"
    short.write_text(PROMPT)
    calibrate(MODEL, tmp_path / "m.safetensors", [str(short)], 1024, random=False)
    assert capsys.readouterr().err.splitlines()[:2] == [
        "warning: short.txt: has 9 tokens, but 1024 are its share; give a longer text, or fewer "
        "tokens",
        "warning: 9 tokens cannot tell the 384 inputs of model.layers.0.mlp.down_proj apart, so "
        "that the calibration holds for little other text; read more tokens, or add the text self",
    ]


def test_depths_by_name(tmp_path):
    quantize(MODEL, tmp_path / "o", depth_for=["*.mlp.*=1", "*.3.mlp.down_proj=4", "*q_proj=2"])
    found = depths(tmp_path / "o")
    assert {found[f"model.layers.{layer}.mlp.down_proj"] for layer in range(3)} == {1}
    assert found["model.layers.3.mlp.down_proj"] == 4
    assert found["model.layers.0.self_attn.q_proj"] == 2
    assert found["model.layers.0.self_attn.k_proj"] == 3


def test_groups_and_scales(tmp_path, capsys):
    quantize(MODEL, tmp_path / "o", depth=2, group=64, scales="direct", as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert (report["group"], report["scales"], report["depth"]) == (64, "direct", 2)
    # Rows are whole tiles: 3.2 bits, and 16 per 64 weights; 31 and 40 rows take padding.
    assert 3.45 < report["stored_bits"] < 3.6
    quantize(MODEL, tmp_path / "text", depth=2, group=64, scales="direct")
    assert "\ngroups of 64 weights with direct scales\n" in capsys.readouterr().out
    inspect(tmp_path / "o", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert {(one["group"], one["scales"], one["inexact_groups"]) for one in found["matrices"]} == {
        (64, "direct", 0)}
    assert (found["config"]["group"], found["config"]["scales"]) == (64, "direct")
    verify(tmp_path / "o", MODEL)
    assert "all valid" in capsys.readouterr().out


def test_a_budget_counts_the_bits_of_long_groups(tmp_path):
    quantize(MODEL, tmp_path / "o", budget=3.0, group=64, scales="direct")
    checkpoint = PackedCheckpoint(tmp_path / "o")
    size = sum(tensor.size for name in checkpoint.matrices
               for tensor in checkpoint.tensors_of(name))
    assert 2.9 < 8 * size / 786432 <= 3.0
    assert set(depths(tmp_path / "o").values()) >= {1, 2}


def test_budget_is_kept_and_measured_once(tmp_path, monkeypatch):
    quantize(MODEL, tmp_path / "a", budget=4.2, method="search", calibration=["random"],
             calibration_tokens=512)
    checkpoint = PackedCheckpoint(tmp_path / "a")
    size = sum(tensor.size for name in checkpoint.matrices
               for tensor in checkpoint.tensors_of(name))
    assert 4.0 < 8 * size / 786432 <= 4.2
    assert len(set(depths(tmp_path / "a").values())) > 1
    # Another budget measures nothing again.
    monkeypatch.setattr("tritstream.scripts.weights.depths.measure", None)
    quantize(MODEL, tmp_path / "b", budget=5.5, method="search", calibration=["random"],
             calibration_tokens=512)
    assert sum(depths(tmp_path / "b").values()) > sum(depths(tmp_path / "a").values())


def test_measuring_resumes_after_a_kill(tmp_path, monkeypatch):
    from tritstream.scripts.weights import depths as module
    measured = []

    def measure(*arguments):
        measured.append(arguments[2])
        if len(measured) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    real = module.measure
    monkeypatch.setattr(module, "measure", measure)
    with pytest.raises(SystemExit):
        quantize(MODEL, tmp_path / "o", budget=3)
    quantize(MODEL, tmp_path / "o", budget=3)
    assert len(measured) == 28 + 1 and measured[4] == measured[5]


def test_head_and_embedding_are_packed_when_asked(tmp_path):
    quantize(MODEL, tmp_path / "o", depth=4, method="search", include=["embed_tokens"])
    checkpoint = PackedCheckpoint(tmp_path / "o")
    assert "model.embed_tokens" in checkpoint.matrices
    assert not any("embed" in name for name in checkpoint.kept)
    plain, packed = load_model(MODEL), load_model(tmp_path / "o")
    # The head is the packed embedding, not a float embedding that is tied.
    assert type(packed.get_output_embeddings()).__name__ == "TritLinear"
    assert (logits(packed) - logits(plain)).abs().max() < 0.5
    assert greedy(packed, 6) == greedy(plain, 6)
    golden = load_model(tmp_path / "o", backend="golden", activation_bits=16)
    assert (logits(golden) - logits(packed)).abs().max() < 0.02


@pytest.mark.parametrize("options, text", [
    ({"budget": 3.0, "depth": 2},
     "--budget chooses the depths: give it without --depth and --depth-for"),
    ({"budget": 1.5}, "budget must be at least 1.948 bits per weight, which is depth 1 everywhere, "
                      "not 1.5"),
    ({"depth": 0}, "depth must be 1..4, not 0"),
    ({"depth_for": ["3"]}, "--depth-for must be GLOB=D, not '3'"),
    ({"depth_for": ["*=x"]}, "--depth-for must be GLOB=D, not '*=x'"),
    ({"depth_for": ["*=5"]}, "depth must be 1..4, not 5"),
    ({"depth_for": ["lm=2"]}, f"{MODEL}: no matrix is named lm, for which depth 2 is requested; "
                              "check the name"),
    ({"method": "best"}, "method must be one of tritllm-v2, search, not best"),
    ({"group": 40}, "group must be a multiple of 16, not 40"),
    ({"scales": "float16"}, "scales must be coded or direct, not 'float16'"),
    ({"group": 32, "method": "tritllm-v2"},
     "method tritllm-v2 supports groups of 16 with coded scales only; use method search for coded "
     "scales in groups of 32"),
    ({"scales": "direct", "calibration": ["random"]},
     "a calibration supports coded scales in groups of 16, 32, 64, 128; quantize without one for "
     "direct scales in groups of 16"),
    ({"budget": 1.5, "group": 64, "scales": "direct"},
     "budget must be at least 1.865 bits per weight, which is depth 1 everywhere, not 1.5"),
    ({"calibration": ["none.txt"], "method": "search"}, "none.txt: no such file; give plain text"),
    ({"include": ["lm_head"]}, f"{MODEL}: has no matrix lm_head to include; a model that ties its "
                               "head to its embedding has model.embed_tokens only"),
])
def test_wrong_options(tmp_path, capsys, options, text):
    assert refused(capsys, quantize, MODEL, tmp_path / "o", **options) == text
    assert not (tmp_path / "o").exists()


def test_wrong_options_are_reported_before_calibrating(tmp_path, text, capsys, monkeypatch):
    monkeypatch.setattr("tritstream.scripts.weights.quantize.moments_file", None)
    options = {"calibration": [text], "method": "search"}
    assert refused(capsys, quantize, MODEL, tmp_path / "o", **options, depth=5) == (
        "depth must be 1..4, not 5")
    assert refused(capsys, quantize, MODEL, tmp_path / "o", **options, depth_for=["*=0"]) == (
        "depth must be 1..4, not 0")
    assert refused(capsys, quantize, MODEL, tmp_path / "o", calibration=[text],
                   method="tritllm-v2") == (
        "method tritllm-v2 does not use a calibration; use method search")


def test_a_file_that_holds_no_moments(tmp_path, capsys):
    model = MODEL / "model.safetensors"
    assert refused(capsys, quantize, MODEL, tmp_path / "o", calibration=[str(model)],
                   method="search") == (
        f"{model}: holds no moments; give a text, or what `tritstream calibrate` wrote")


#: Calibrates and kills itself in the middle of keeping the sums of the second window.
KILL = """
import os, signal, sys
from tritstream.golden import calibration_job
from tritstream.scripts.cli import app
real, seen = os.pwrite, 0

def dying(file, data, place):
    global seen
    seen += 1
    if seen == 59 + 30:
        real(file, bytes(data)[:len(data) // 2], place)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(file, data, place)

calibration_job._SHARE, os.pwrite = 0, dying
app(sys.argv[1:])
"""


def test_a_killed_calibration_resumes_with_the_same_bytes(tmp_path, text, capsys):
    out = tmp_path / "m.safetensors"
    arguments = ("calibrate", MODEL, "-o", out, "--text", text, "--tokens", 1536, "--no-random")
    killed = run_forked(KILL, *arguments, modules=COMMANDS)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stderr.splitlines()[0] == f"calibrating: {out}.partial is kept for a restart"
    other = tmp_path / "other.txt"
    other.write_text("Something else entirely. " * 900)
    assert refused(capsys, calibrate, MODEL, out, [str(other)], 1536, random=False).startswith(
        f"{out}.partial: was left by a calibration with another text (text.txt, SHA-256 ")
    calibrate(MODEL, out, [text], 1536, random=False)
    assert capsys.readouterr().err.splitlines()[0] == (
        f"calibrating: 1 of 3 windows were read by an earlier run; {out}.partial is kept for a "
        "restart")
    calibrate(MODEL, tmp_path / "whole.safetensors", [text], 1536, random=False)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not out.with_name("m.safetensors.partial").exists()
