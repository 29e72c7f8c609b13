"""Plug-in of vLLM: its contract with a stand-in for vLLM, and vLLM itself where it is installed."""

import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.torch_values import to_torch
from tritstream.host.vllm_plugin.registration import register
from tritstream.host.vllm_plugin.weights import plain_weights

from support import fake_vllm
from support.model_helpers import MODEL

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A random Qwen2 whose merged matrices have several depths, one of them kept; its export."""
    path = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=61, hidden_size=40, intermediate_size=52, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False))
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    model.save_pretrained(path / "source")
    pack_checkpoint(path / "source", path / "packed", 3, overrides={"*.v_proj": 2},
                    include=["lm_head"], exclude=["*.layers.0.self_attn.k_proj"])
    export(path / "packed", path / "plain")
    return path


@pytest.fixture
def copy(models, tmp_path):
    """A copy of the packed directory, to change it."""
    for file in (models / "packed").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture
def vllm():
    """The plug-in, registered with the stand-in."""
    with fake_vllm.installed():
        register()
        yield import_module("tritstream.host.vllm_plugin.loader")


def linear_layers(model, plain):
    """Each linear layer of a model, and weights and bias of the plain one: whole, by shard."""
    for index, layer in enumerate(model.model.layers):
        for room in ("self_attn", "mlp"):
            for name, module in getattr(layer, room).named_children():
                parts = [part for part, (merged, _) in layer.MERGED.items() if merged == name]
                names = [f"model.layers.{index}.{room}.{part}" for part in parts or [name]]
                yield (module, [plain[f"{one}.weight"].float() for one in names],
                       [plain[f"{one}.bias"] for one in names if f"{one}.bias" in plain])


@pytest.mark.parametrize("rank, ranks", [(0, 1), (0, 2), (1, 2)])
def test_layers_multiply_by_the_exported_weights(models, vllm, rank, ranks):
    """Also for a rank of tensor parallelism, whose 26 rows or columns are no whole tiles."""
    model, plain = (fake_vllm.load(models / "packed", rank=rank, ranks=ranks),
                    load_file(models / "plain" / "model.safetensors"))
    count = 0
    for module, weights, biases in linear_layers(model, plain):
        split = int(module.split_input)
        weight = torch.cat([one.chunk(ranks, split)[rank] for one in weights])
        bias = torch.cat([one.chunk(ranks)[rank] for one in biases]) if biases else None
        x = torch.randn(3, weight.shape[1])
        assert torch.equal(module(x), F.linear(x, weight, bias))
        count += 1
    assert count == 8
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
                 "model.layers.1.input_layernorm.weight"):
        assert torch.equal(model.get_parameter(name), plain[name].float())


def test_weights_are_those_of_the_export(models):
    found, plain = (dict(plain_weights(PackedCheckpoint(models / "packed"))),
                    load_file(models / "plain" / "model.safetensors"))
    assert found.keys() == plain.keys()
    for name, value in plain.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_keep_their_bytes_as_a_tensor(dtype):
    values = np.arange(96, dtype=np.uint8).reshape(4, 24)
    if dtype == "BOOL":
        values %= 2
    tensor = to_torch(values.view(DTYPES[dtype]))
    assert tensor.dtype.itemsize == DTYPES[dtype].itemsize
    assert tensor.is_floating_point() == (dtype[0] in "BF" and dtype != "BOOL")
    assert np.array_equal(tensor.view(torch.uint8).numpy(), values)


@pytest.mark.parametrize("load_format", ["tritstream", "dummy"])
def test_layers_are_those_of_a_plain_model(models, vllm, load_format):
    """Code of vLLM treats this class of linear methods apart, so it must be no other."""
    config = import_module("tritstream.host.vllm_plugin.config").TritstreamQuantizationConfig()
    model = fake_vllm.load(models / "packed")
    current = fake_vllm.SimpleNamespace(
        load_config=fake_vllm.SimpleNamespace(load_format=load_format))
    with fake_vllm.set_current_vllm_config(current):
        method = config.get_quant_method(model.model.layers[0].mlp.down_proj, "down_proj")
        assert type(method) is fake_vllm.UnquantizedLinearMethod
        assert config.get_quant_method(model.lm_head, "lm_head") is None


def test_the_entry_point_may_be_called_again(models, vllm):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["vllm.general_plugins"]["tritstream"].partition(":")
    assert getattr(import_module(module), name) is register
    register()
    fake_vllm.load(models / "packed")


@pytest.mark.parametrize("load_format", ["auto", "safetensors", "sharded_state"])
def test_another_load_format_is_refused(models, vllm, load_format):
    with pytest.raises(ValueError, match=f"packed: packed weights need --load-format tritstream .*"
                                         f"not {load_format}"):
        fake_vllm.load(models / "packed", load_format)


def test_the_default_loader_finds_no_packed_weights(models):
    loader = fake_vllm.DefaultModelLoader(fake_vllm.SimpleNamespace(model_loader_extra_config={}))
    where = fake_vllm.SimpleNamespace(model=str(models / "packed"))
    with pytest.raises(FileNotFoundError, match="this model is packed by tritstream"):
        next(loader.get_all_weights(where, None))


def test_damaged_bytes_are_refused(copy, vllm):
    file = copy / "packed.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="CRC-32 is .*; copy it again"):
        fake_vllm.load(copy)


def test_a_plain_directory_is_refused(models, vllm):
    loader = vllm.TritstreamModelLoader(fake_vllm.SimpleNamespace(model_loader_extra_config={}))
    where = fake_vllm.SimpleNamespace(model=str(models / "plain"))
    with pytest.raises(CheckpointError, match="has no quantization_config; pack the checkpoint"):
        loader.get_all_weights(where, nn.Module())


def test_a_packed_head_that_vllm_would_tie_is_refused(copy, vllm):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(CheckpointError, match="lm_head is packed, but config.json ties it to the "
                                              "embeddings.*run tritstream export"):
        fake_vllm.load(copy)


def test_weights_of_other_checkpoints_are_refused(models, vllm):
    with pytest.raises(CheckpointError, match="Qwen2Model also loads weights of another"):
        fake_vllm.load(models / "packed",
                       change=lambda model: setattr(model, "secondary_weights", ["tower"]))


def test_parameters_without_weights_are_an_error(models, vllm):
    """vLLM's own default for quantized models is to leave them random."""
    def change(model):
        model.extra = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"not initialized from checkpoint: \{.*extra\.weight"):
        fake_vllm.load(models / "packed", change=change)
    fake_vllm.load(models / "packed", change=change, extra={"enable_weights_track": False})


def test_a_name_on_the_hub_is_downloaded(models, vllm, monkeypatch):
    asked = {}

    def snapshot_download(name, **options):
        asked.update(name=name, **options)
        return str(models / "packed")

    monkeypatch.setattr(vllm, "snapshot_download", snapshot_download)
    loader = vllm.TritstreamModelLoader(fake_vllm.SimpleNamespace(
        download_dir="/cache", ignore_patterns=["original/**/*"], model_loader_extra_config={}))
    where = fake_vllm.SimpleNamespace(model="some/packed", revision="v1",
                                      hf_config=fake_vllm.SimpleNamespace())
    assert len(dict(loader.get_all_weights(where, nn.Module()))) == 27
    assert asked == {
        "name": "some/packed", "revision": "v1", "cache_dir": "/cache",
        "allow_patterns": ["*.json", "*.safetensors"], "ignore_patterns": ["original/**/*"]}


_RUN = """
import json, sys
from vllm import LLM, SamplingParams

def main():
    path, load_format = sys.argv[1:]
    llm = LLM(path, load_format=load_format, dtype="float16", enforce_eager=True,
              max_model_len=64, max_num_seqs=2)
    found = llm.generate(["She had always wished to be a good", "The old man"],
                         SamplingParams(temperature=0, max_tokens=12, logprobs=1))
    print("FOUND", json.dumps([
        [list(one.outputs[0].token_ids), [max(value.logprob for value in step.values())
                                          for step in one.outputs[0].logprobs]] for one in found]))

if __name__ == "__main__":
    main()
"""


@pytest.mark.long
@pytest.mark.skipif(not find_spec("vllm"), reason="needs vLLM")
def test_vllm_computes_the_same_from_packed_and_from_exported(tmp_path):
    pack_checkpoint(MODEL, tmp_path / "packed", 3, overrides={"*.v_proj": 2},
                    exclude=["*.layers.0.self_attn.k_proj"])
    export(tmp_path / "packed", tmp_path / "plain")
    (tmp_path / "run.py").write_text(_RUN)

    def run(folder, load_format):
        return subprocess.run(
            [sys.executable, tmp_path / "run.py", tmp_path / folder, load_format], text=True,
            capture_output=True, env=os.environ | {
                "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"})

    def found(done):
        assert done.returncode == 0, done.stderr
        return json.loads(next(line.removeprefix("FOUND ") for line in done.stdout.splitlines()
                               if line.startswith("FOUND ")))

    assert found(run("packed", "tritstream")) == found(run("plain", "auto"))
    refused = run("packed", "auto")
    assert refused.returncode and "--load-format tritstream" in refused.stdout + refused.stderr
