"""Commands that are given the name of a model on the Hub."""

import json
import re

import pytest

from support.cli_helpers import MODEL
from support.forked import GOLDEN, TORCH, run_forked
from support.hub import fake_hub
from support.text_cases import make_text

NAME = "Owner/tiny-qwen2"


@pytest.fixture(scope="module")
def hub():
    with fake_hub() as server:
        server.add(NAME, MODEL)
        yield server


@pytest.fixture
def tritstream(hub, tmp_path, monkeypatch):
    """Run the command where huggingface_hub, which looks when imported, asks the Hub of the test.
    """
    def run(*arguments, **environment):
        with monkeypatch.context() as here:
            here.chdir(tmp_path)
            for name, value in {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"),
                                "HF_HUB_OFFLINE": "0", **environment}.items():
                here.setenv(name, value)
            done = run_forked("from tritstream.scripts.cli import main; main()", *arguments,
                              modules=(*GOLDEN, *TORCH, "tritstream.scripts.cli"))
        return done.returncode, done.stdout, done.stderr
    return run


def test_from_a_name_to_figures(hub, tritstream, tmp_path):
    code, out, err = tritstream("quantize", NAME, "-o", "packed", "-d", 2, "--include",
                                "embed_tokens")
    assert (code, err) == (0, "")
    assert "packed checkpoint: packed\n" in out
    assert f"\nbase_model: {NAME}\n" in (tmp_path / "packed" / "README.md").read_text()
    hub.add("Owner/packed", tmp_path / "packed")
    (tmp_path / "words.txt").write_text(make_text(400), encoding="utf-8")
    code, out, err = tritstream("eval", "Owner/packed", "--base", NAME, "--text", "words.txt",
                                "--ctx", 64, "--tokens", 155, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["base"]["path"], report["models"][0]["path"]) == (NAME, "Owner/packed")
    again = tritstream("verify", "Owner/packed", "--against", NAME, HF_HUB_OFFLINE="1")
    assert again[0] == 0 and again[1].startswith("Owner/packed: 50 tensors, all valid\n")


def test_errors_are_one_line(tritstream, tmp_path):
    code, out, err = tritstream("inspect", "Owner/none")
    assert (code, out) == (1, "")
    assert re.fullmatch(
        r"error: Owner/none: no such file or directory, and no public model of that name on the "
        r"Hub \(http://127\.0\.0\.1:\d+\); check the name, or run `hf auth login` if it is "
        r"private\n", err)
    code, out, err = tritstream("quantize", NAME, "-o", "packed", HF_HUB_OFFLINE="1")
    assert (code, out, err) == (
        1, "", f"error: {NAME}: no such file or directory, and the cache of the Hub does not hold "
        "all its files, and HF_HUB_OFFLINE forbids to download them; unset it for a download\n")
    assert not (tmp_path / "packed.partial").exists()
