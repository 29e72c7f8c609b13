import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM

import tritstream.host.model.load
import tritstream.host.model.scoring
import tritstream.host.quality
from tritstream.golden.packed.pack import pack_checkpoint

from support.eval_cases import CHUNKS, CONTEXT, SCORED
from support.golden_helpers import run_python, write_json
from support.model_helpers import MODEL
from support.text_cases import make_text


def log_softmax(path, text):
    """Log-probabilities (T, V) and targets (T,) of all scored places, by torch alone."""
    ids = tritstream.host.model.load.load_tokenizer(MODEL)(text).input_ids[:CHUNKS * CONTEXT]
    chunks = torch.tensor(ids).view(CHUNKS, CONTEXT)
    with torch.no_grad():
        model = tritstream.host.model.load.load_model(path)
        logits = model(chunks).logits[:, CONTEXT // 2:-1].double()
    return logits.log_softmax(-1).flatten(0, 1), chunks[:, CONTEXT // 2 + 1:].flatten()


def test_figures_against_plain_torch(places, report):
    found = report(places / "d2", "--base", MODEL)
    text = (places / "words.txt").read_text(encoding="utf-8")
    base, targets = log_softmax(MODEL, text)
    other, _ = log_softmax(places / "d2", text)
    nll_base, nll = (-each[torch.arange(len(each)), targets] for each in (base, other))
    kl = (base.exp() * (base - other)).sum(-1)
    change = other.exp().gather(1, targets[:, None]) - base.exp().gather(1, targets[:, None])
    [row] = found["models"]
    for value, expected in [
        (found["base"]["perplexity"], nll_base.mean().exp()), (row["perplexity"], nll.mean().exp()),
        (row["log_ratio"], (nll - nll_base).mean()), (row["kl"], kl.mean()),
        (row["delta_p"], change.mean()), (row["delta_p_rms"], change.square().mean().sqrt()),
        (row["same_top"], (base.argmax(-1) == other.argmax(-1)).double().mean()),
    ]:
        assert value["value"] == pytest.approx(expected.item(), rel=1e-4)
    assert row["kl"]["error"] == pytest.approx(kl.std().item() / len(kl) ** 0.5, rel=1e-4)
    assert row["kl_percentiles"]["100"] == pytest.approx(kl.max().item(), rel=1e-4)
    assert found["scored_tokens"] == len(kl) == CHUNKS * SCORED
    bits = nll.sum().item() / np.log(2) / found["scored_bytes"]
    assert row["bits_per_byte"]["value"] == pytest.approx(bits, rel=1e-5)


def test_report_says_what_was_measured(places, report, tmp_path):
    found = report(places / "d2", places / "exported", "--base", MODEL)
    data = (places / "words.txt").read_bytes()
    assert found["corpus"] == {
        "name": "words.txt", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
        "tokens": len(tritstream.host.model.load.load_tokenizer(MODEL)(data.decode()).input_ids)}
    assert (found["context"], found["chunks"], found["bos"]) == (CONTEXT, CHUNKS, False)
    # A wheel of PyPI leaves out the local part, such as +cu130.
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == found
    packed, exported = found["models"]
    weights = 4 * (128 * 128 * 2 + 128 * 64 * 2 + 128 * 384 * 3)
    stored = sum(tensor.nbytes for name, tensor in load_file(
        places / "d2" / "packed.safetensors").items() if name.endswith((".trits", ".scales")))
    assert (packed["depths"], exported["depths"]) == ([2], [])
    assert packed["stored_bits"] == 8 * stored / weights
    assert packed["information_bits"] == pytest.approx(35 * np.log2(3) / 16)
    assert (exported["stored_bits"], exported["information_bits"]) == (16, None)
    assert 0.015 < packed["squared_error"] < 0.03
    assert exported["squared_error"] == pytest.approx(packed["squared_error"], rel=1e-3)
    assert all(row["seconds"] > 0 for row in (found["base"], *found["models"]))


def test_packed_and_exported_agree(places, report):
    [row] = report(places / "exported", "--base", places / "d2")["models"]
    assert 0 < row["kl"]["value"] < 1e-5
    assert row["squared_error"] is None


def test_a_model_is_not_far_from_itself(places, report):
    [row] = report(MODEL, "--base", MODEL)["models"]
    assert row["kl_percentiles"]["100"] == row["squared_error"] == row["delta_p_rms"]["value"] == 0
    assert row["same_top"] == {"value": 1, "error": 0}


def test_deeper_is_nearer(places, report):
    rows = report(places / "d1", places / "d2", "--base", MODEL)["models"]
    assert rows[0]["kl"]["value"] > 3 * rows[1]["kl"]["value"] > 0
    assert rows[0]["same_top"]["value"] < rows[1]["same_top"]["value"] < 1


def test_tables(places, evaluate):
    code, out, err = evaluate(places / "d2", "--base", MODEL)
    assert (code, err) == (0, "")
    assert f"{CHUNKS} chunks of {CONTEXT} tokens; {CHUNKS * SCORED} tokens scored" in out
    assert f"base: {MODEL}\n" in out
    assert "as llama.cpp's perplexity tool defines them" in out
    number, estimate = r" +-?\d+\.\d+", r" +-?\d+\.\d+ ± \d+\.\d+"
    for cells in [rf" +2{number}{number} +\d\.\d\de-02{estimate}{estimate}{number}",
                  estimate * 5, number * 10, number * 9]:
        assert len(re.findall(rf"^{places / 'd2'}{cells}$", out, re.M)) == 1, cells


def test_without_a_base(places, evaluate, report):
    [row] = report(places / "d2")["models"]
    assert "kl" not in row and "squared_error" not in row
    _, out, _ = evaluate(places / "d2")
    assert "KLD " not in out
    assert re.search(rf"^{places / 'd2'} .* ± .* ± ", out, re.M)


def test_integer_activations(places, report, evaluate):
    arguments = (places / "d2", "--base", places / "d2", "--backend", "golden")
    report(*arguments)
    report(*arguments, "--activation-bits", 16)
    found = report(*arguments, "--activation-bits-for", "*.down_proj=16")
    eight, sixteen, mixed = (row["kl"]["value"] for row in found["models"])
    assert 10 * sixteen < mixed < eight < 1e-2
    assert [row["activation_bits"] for row in found["models"]] == [
        {"*": 8}, {"*": 16}, {"*": 8, "*.down_proj": 16}]
    _, out, _ = evaluate(*arguments)
    for label in ("int8", "int16", "int8, *.down_proj int16"):
        assert out.count(f"{places / 'd2'} golden {label}  ") == 4


def test_device_gives_what_golden_gives(report, tmp_path, capsys):
    torch.manual_seed(1)
    config = Qwen2Config(vocab_size=1024, hidden_size=16, intermediate_size=24,
                         num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "small")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, tmp_path / "small")
    pack_checkpoint(tmp_path / "small", tmp_path / "packed", 2)
    capsys.readouterr()
    rows = [report(tmp_path / "packed", "--ctx", 16, "--tokens", 105, "--backend", name)["models"]
            for name in ("golden", "device")][-1]
    assert [row["backend"] for row in rows] == ["golden", "device"]
    assert rows[0]["perplexity"] == rows[1]["perplexity"]


def test_impossible_token(places, fails, monkeypatch):
    predict = tritstream.host.model.scoring.predict

    def impossible(model, chunks, chunk):
        logits = predict(model, chunks, chunk).logits.copy()
        logits[3, chunks.targets(chunk)[3]] = -np.inf
        return tritstream.host.quality.Prediction(logits)

    monkeypatch.setattr(tritstream.host.model.scoring, "predict", impossible)
    assert fails(places / "d2") == (
        f"{places / 'd2'}: in chunk 0 it holds a token for impossible that came, or that the base "
        "expects")


def test_wrong_text(places, fails, tmp_path):
    missing, latin = tmp_path / "no.txt", tmp_path / "latin.txt"
    latin.write_bytes("it is £5".encode("latin-1"))
    assert fails(MODEL, "--text", missing) == f"{missing}: no such file; give plain text"
    assert fails(MODEL, "--text", latin) == (
        f"{latin}: not UTF-8 at byte 6; convert it, such as by `iconv -t UTF-8`")
    latin.write_text("too short")
    assert "two chunks of 64 need 128; give more text" in fails(MODEL, "--text", latin)


def test_wrong_models(places, fails, tmp_path):
    assert fails(MODEL, "--ctx", 513) == (
        f"{MODEL}: reads 512 tokens at most; give a ctx up to that, not 513")
    assert fails(places / "exported", "--backend", "golden").startswith(
        f"{places / 'exported'}: not packed, so only the reference backend can run it")
    assert fails(MODEL, "--backend", "gpu") == (
        "backend must be one of device, golden, cpu, cuda, reference, not 'gpu'")
    assert fails(places / "d2", "--backend", "golden", "--activation-bits", 4) == (
        "activation bits must be 8 or 16, not 4")
    assert fails(places / "d2", "--backend", "golden", "--activation-bits-for", "head=16") == (
        f"{places / 'd2'}: no matrix fits 'head'; `tritstream inspect` lists them")
    assert fails(tmp_path) == f"{tmp_path}: is empty; give the directory of a checkpoint"


def test_models_that_cannot_be_compared(fails, tmp_path):
    shutil.copytree(MODEL, tmp_path / "other")
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text())
    del tokenizer["model"]["merges"][3:]
    write_json(tmp_path / "other" / "tokenizer.json", tokenizer)
    assert fails(tmp_path / "other", "--base", MODEL) == (
        f"{tmp_path / 'other'}: its tokenizer gives other tokens than that of {MODEL}; compare "
        "models of one tokenizer")
    config = json.loads((MODEL / "config.json").read_text())
    write_json(tmp_path / "other" / "config.json", config | {"vocab_size": 2048})
    assert fails(tmp_path / "other", "--base", MODEL) == (
        f"{tmp_path / 'other'}: its vocabulary is of 2048 tokens, that of {MODEL} of 1024; compare "
        "models of one vocabulary")


def test_without_torch(places):
    done = run_python("""
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
from tritstream.scripts.cli import app
from tritstream.scripts.evaluation.store import Scores
app(["eval", sys.argv[1], "--text", sys.argv[2]])
""", MODEL, places / "words.txt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: models need torch and transformers: pip install 'tritstream[torch]'\n")


@pytest.fixture
def letters(places):
    """A second text."""
    (places / "letters.txt").write_text(make_text(400, seed=1), encoding="utf-8", newline="")
    return places / "letters.txt"


def test_several_texts(places, letters, report, predicted):
    arguments = (places / "d2", "--base", MODEL)
    alone = report(*arguments)
    assert len(predicted) == 2 * CHUNKS
    both = report(*arguments, "--text", letters)
    assert predicted[2 * CHUNKS:] == [
        (name, chunk) for chunk in range(CHUNKS) for name in ("tiny-qwen2", "d2")]
    assert both["texts"][0] == alone
    assert [text["corpus"]["name"] for text in both["texts"]] == ["words.txt", "letters.txt"]
    assert both["texts"][1]["corpus"]["sha256"] == hashlib.sha256(letters.read_bytes()).hexdigest()
    first, second = (text["models"][0] for text in both["texts"])
    assert first["squared_error"] == second["squared_error"] and first["kl"] != second["kl"]
    assert report(*arguments) == alone
    assert len(predicted) == 4 * CHUNKS


def test_a_row_per_text_and_model(places, letters, evaluate):
    code, out, err = evaluate(places / "d2", "--base", MODEL, "--text", letters)
    assert (code, err) == (0, "")
    for text in ("words.txt", "letters.txt"):
        assert len(re.findall(rf"^{text}: \d+ bytes", out, re.M)) == 1
        assert len(re.findall(rf"^{text} +{MODEL} +16.00 ", out, re.M)) == 1
        assert len(re.findall(rf"^{text} +{places / 'd2'} +[-\d]", out, re.M)) == 4


def test_several_texts_go_on(places, letters, evaluate, report, predicted, monkeypatch):
    predict = tritstream.host.model.scoring.predict

    def stop_in_the_second(model, chunks, chunk):
        if len(predicted) == CHUNKS + 2:
            raise KeyboardInterrupt
        return predict(model, chunks, chunk)

    with monkeypatch.context() as patched:
        patched.setattr(tritstream.host.model.scoring, "predict", stop_in_the_second)
        assert evaluate(places / "d1", "--text", letters)[0] == 130
    found = report(places / "d1", "--text", letters)
    assert predicted == [("d1", chunk) for _ in range(2) for chunk in range(CHUNKS)]
    assert len(found["texts"]) == 2


def test_the_text_that_is_too_short_is_named(fails, tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    assert fails(MODEL, "--text", tmp_path / "short.txt").startswith(
        "short.txt: the text has 4 tokens, but two chunks of 64 need 128; ")
