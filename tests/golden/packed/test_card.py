"""Model cards of packed and of exported checkpoints, read by huggingface_hub."""

import ast
import re
import shutil

import pytest
from huggingface_hub import ModelCard

from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint

from support.golden_helpers import make_checkpoint, message

CARD = """---
license: other
license_name: "qwen: research"
license_link: >-
  https://huggingface.co/Qwen/Qwen2.5-0.5B/blob/main/LICENSE
language:
- en
# a remark
- de
base_model: Owner/base-of-the-base
base_model_relation: finetune
tags: [chat]
---

# Qwen2.5-0.5B

It has 0.49B parameters.
"""
TAGS = ["quantized", "ternary", "tritstream"]


@pytest.fixture
def model(tmp_path):
    make_checkpoint(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def snapshot(model, tmp_path):
    """The model in the Hub's cache."""
    place = tmp_path / "models--Qwen--Qwen2.5-0.5B" / "snapshots" / "1a2b"
    shutil.copytree(model, place)
    return place


def card(directory):
    return ModelCard.load(directory / "README.md")


def python(text):
    """The names that the recipe of a card imports, and the class that loads the model."""
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    tree = ast.parse(code)
    names = [alias.name for node in ast.walk(tree)
             if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    return names, re.search(r"^model = (\w+)\.from_pretrained", code, re.MULTILINE)[1]


def test_without_a_card(model, tmp_path):
    pack_checkpoint(model, tmp_path / "packed", 3)
    found = card(tmp_path / "packed")
    assert found.data.to_dict() == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "tags": TAGS}
    assert python(found.text) == (["tritstream", "AutoTokenizer", "AutoModelForCausalLM"],
                                  "AutoModelForCausalLM")
    assert "pip install 'tritstream[torch]'" in found.text
    assert "digits, 3 per weight." in found.text
    assert "original model" not in found.text


def test_a_model_of_the_hub(snapshot, tmp_path):
    (snapshot / "README.md").write_text(CARD)
    pack_checkpoint(snapshot, tmp_path / "packed", 2, overrides={"*.up_proj": 3})
    found = card(tmp_path / "packed")
    assert found.data.to_dict() == {
        "base_model": "Qwen/Qwen2.5-0.5B", "base_model_relation": "quantized",
        "license": "other", "license_name": "qwen: research",
        "license_link": "https://huggingface.co/Qwen/Qwen2.5-0.5B/blob/main/LICENSE",
        "language": ["en", "de"], "library_name": "transformers",
        "pipeline_tag": "text-generation", "tags": TAGS}
    assert found.text.startswith("\n# Qwen2.5-0.5B\n\nThe linear layers of [Qwen/Qwen2.5-0.5B]"
                                 "(https://huggingface.co/Qwen/Qwen2.5-0.5B) (commit 1a2b) are")
    assert "2 per weight unless config.json says otherwise" in found.text
    assert found.text.endswith("\n## Card of the original model\n\n# Qwen2.5-0.5B\n\nIt has 0.49B "
                               "parameters.\n")


def test_a_name_that_is_given(model, tmp_path):
    pack_checkpoint(model, tmp_path / "packed", 2, base_model="Owner/name")
    assert card(tmp_path / "packed").data.base_model == "Owner/name"
    with pytest.raises(ValueError, match=message(
            "the base model must be OWNER/NAME, as on the Hub, not 'name: x'")):
        pack_checkpoint(model, tmp_path / "other", 2, base_model="name: x")
    assert not (tmp_path / "other").exists() and not (tmp_path / "other.partial").exists()


def test_an_export_says_what_it_is(snapshot, tmp_path):
    (snapshot / "README.md").write_text(CARD)
    pack_checkpoint(snapshot, tmp_path / "packed", 2)
    export(tmp_path / "packed", tmp_path / "exported")
    packed, exported = card(tmp_path / "packed"), card(tmp_path / "exported")
    assert exported.data.to_dict() == packed.data.to_dict()
    assert python(exported.text) == (["AutoTokenizer", "AutoModelForCausalLM"],
                                     "AutoModelForCausalLM")
    assert "pip install" not in exported.text and "dequantized again" in exported.text
    assert exported.text.count("It has 0.49B parameters.") == 1


@pytest.mark.parametrize(("architectures", "loader"), [
    (["Qwen2ForSequenceClassification"], "Qwen2ForSequenceClassification"), (None, "AutoModel"),
    ([], "AutoModel"), (["x; import os"], "AutoModel")])
def test_models_that_are_not_causal(model, tmp_path, architectures, loader):
    config = (model / "config.json").read_text()
    value = "null" if architectures is None else str(architectures).replace("'", '"')
    (model / "config.json").write_text(config.replace('["Qwen2ForCausalLM"]', value))
    pack_checkpoint(model, tmp_path / "packed", 2)
    found = card(tmp_path / "packed")
    assert python(found.text)[1] == loader and found.data.pipeline_tag is None


def test_a_card_in_another_encoding(model, tmp_path):
    (model / "README.md").write_bytes("---\r\nlicense: mit\r\n---\r\nfür alle".encode("latin-1"))
    pack_checkpoint(model, tmp_path / "packed", 2)
    written = (tmp_path / "packed" / "README.md").read_bytes()
    assert b"\nlicense: mit\n" in written
    assert written.endswith("\n## Card of the original model\n\nfür alle".encode("latin-1"))


def test_a_job_that_goes_on_writes_one_card(model, tmp_path, monkeypatch):
    def stop(job):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Job, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            pack_checkpoint(model, tmp_path / "packed", 2)
    pack_checkpoint(model, tmp_path / "packed", 2)
    pack_checkpoint(model, tmp_path / "again", 2)
    assert (tmp_path / "packed" / "README.md").read_bytes() == (
        tmp_path / "again" / "README.md").read_bytes()


def test_an_export_of_an_older_checkpoint(model, tmp_path):
    pack_checkpoint(model, tmp_path / "packed", 2)
    (tmp_path / "packed" / "README.md").write_text(CARD)
    export(tmp_path / "packed", tmp_path / "exported")
    found = card(tmp_path / "exported")
    assert found.data.license == "other" and found.data.base_model is None
    assert found.text.endswith("## Card of the original model\n\n# Qwen2.5-0.5B\n\nIt has 0.49B "
                               "parameters.\n")
