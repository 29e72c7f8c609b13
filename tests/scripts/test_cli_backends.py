"""Commands that multiply on the host give golden's results."""

import json

import pytest
from typer.testing import CliRunner

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.model import backends
from tritstream.scripts.cli import app

from support.model_helpers import MODEL, PROMPT


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d2"
    pack_checkpoint(MODEL, path, 2)
    return path


def call(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def results(command, packed, *arguments):
    done = call(command, packed, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_generate_gives_the_text_of_golden(packed):
    golden, cpu = (results("generate", packed, "--prompt", PROMPT, "--tokens", 8, "--backend", name,
                           "--activation-bits-for", "*.down_proj=16")
                   for name in ("golden", "cpu"))
    assert cpu["text"] == golden["text"] != ""
    assert cpu["backend"] == "cpu"


def test_eval_gives_the_figures_of_golden(packed, tmp_path):
    (tmp_path / "text").write_text(f"{PROMPT} sister. " * 60)
    golden, cpu = (results("eval", packed, "--text", tmp_path / "text", "--ctx", 64, "--tokens",
                           128, "--backend", name, "-o", tmp_path / name)["models"][0]
                   for name in ("golden", "cpu"))
    assert cpu["perplexity"] == golden["perplexity"]


def test_without_numba_or_a_gpu(packed, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    monkeypatch.setattr(backends.torch.cuda, "is_available", lambda: False)
    for name, said in (("cpu", "the backend cpu needs numba: pip install 'tritstream[fast]', or"),
                       ("cuda", "the backend cuda needs a GPU, and torch finds none: install")):
        done = call("generate", packed, "--prompt", PROMPT, "--backend", name)
        assert done.exit_code == 1
        assert done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1
