"""Packed BitNet models against the layers of transformers, one layer at a time."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, BitNetConfig, BitNetForCausalLM
from transformers.utils.quantization_config import BitNetQuantConfig

from tritstream.golden.activation import RULES, quantize_activation
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.recover.import_checkpoint import import_checkpoint
from tritstream.host.model.backends import CpuBackend, GoldenBackend, TorchBackend
from tritstream.host.model.load import load_model

from support.golden_helpers import message, write_json

with pytest.MonkeyPatch.context() as patch:
    # transformers compiles functions when this module is imported, which takes seconds.
    patch.setattr(torch, "compile", lambda function: function)
    from transformers.integrations.bitnet import ActQuant, pack_weights, replace_with_bitnet_linear

IDS = torch.arange(60)[None] * 7 % 96


def ternary_model(kind, dtype):
    """A random model with the layers of transformers, and its tensors as they are published."""
    torch.manual_seed(0)
    model = BitNetForCausalLM(BitNetConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=2, vocab_size=96,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)).eval()
    for value in model.parameters():
        value.data = torch.rand_like(value) + 0.5 if value.ndim == 1 else torch.randn_like(value)
    model = model.to(dtype)
    layers = [name for name, module in model.named_modules()
              if isinstance(module, nn.Linear) and name != "lm_head"]
    shapes = {name: model.get_submodule(name).weight.shape for name in layers}
    replace_with_bitnet_linear(model, ["lm_head"], BitNetQuantConfig(linear_class=kind))
    tensors = {name: value.detach() for name, value in model.named_parameters()
               if name.rpartition(".")[0] not in layers}
    for name in layers:
        levels, layer = torch.randint(-1, 2, shapes[name]), model.get_submodule(name)
        codes = pack_weights(levels.clone())
        scale = (0.04 + 0.02 * torch.rand(1)).to(dtype)
        layer.weight_scale = nn.Buffer(1 / scale if kind == "bitlinear" else scale)
        if kind == "bitlinear":
            layer.weight = nn.Buffer(codes)
        else:
            layer.weight = nn.Parameter(levels.to(dtype), requires_grad=False)
        tensors |= {f"{name}.weight": codes, f"{name}.weight_scale": layer.weight_scale}
    return model, layers, tensors


def write(path, model, kind, tensors):
    path.mkdir()
    save_file({name: value.contiguous() for name, value in tensors.items()},
              path / "model.safetensors", {"format": "pt"})
    write_json(path / "config.json", {
        **json.loads(model.config.to_json_string()), "architectures": ["BitNetForCausalLM"],
        "quantization_config": {"quant_method": "bitnet", "linear_class": kind}})


@pytest.fixture(scope="module", params=[
    ("autobitlinear", torch.float32), ("bitlinear", torch.float32),
    ("autobitlinear", torch.bfloat16), ("bitlinear", torch.bfloat16)], ids=str)
def models(request, tmp_path_factory):
    """Kind of the layers, dtype, model of transformers, names of its layers, packed directory."""
    path, (kind, dtype) = tmp_path_factory.mktemp("bitnet"), request.param
    model, layers, tensors = ternary_model(kind, dtype)
    write(path / "m", model, kind, tensors)
    import_checkpoint(path / "m", path / "packed")
    return kind, dtype, model, layers, path


@torch.inference_mode()
def inputs_and_outputs(model, layers):
    """Input and output of each layer in a pass."""
    found = {}
    hooks = [model.get_submodule(name).register_forward_hook(
        lambda module, given, made, name=name: found.update({name: (given[0], made)}))
        for name in layers]
    logits = model(IDS).logits
    for hook in hooks:
        hook.remove()
    return found, logits


def test_each_layer_computes_what_the_layer_of_transformers_does(models):
    """In bfloat16 transformers rounds activations, sums and scales; here only the results are."""
    kind, dtype, theirs, layers, path = models
    model = load_model(path / "packed", backend="golden", dtype=dtype)
    found, logits = inputs_and_outputs(theirs, layers)
    limit = 3e-7 if dtype == torch.float32 else 0.005 if kind == "autobitlinear" else 0.02
    for name, (given, due) in found.items():
        with torch.inference_mode():
            made = model.get_submodule(name)(given)
        assert made.dtype == dtype
        assert (made - due).float().norm() <= limit * due.float().norm(), name
    with torch.inference_mode():
        choices = model(IDS).logits.argmax(-1)
    assert (choices == logits.argmax(-1)).float().mean() > 0.9


def test_levels_are_those_of_transformers(models):
    _, _, theirs, layers, _ = models
    for given, _ in inputs_and_outputs(theirs, layers)[0].values():
        x = given.float()
        levels, scales = quantize_activation(x.numpy(), "bitnet")
        factors = (1 / scales).astype(np.float32)[..., None]
        assert (levels / factors == ActQuant.apply(x).numpy()).all()


def test_the_rule_is_recorded(models):
    fields = PackedCheckpoint(models[-1] / "packed").config["quantization_config"]
    assert (fields["activations"], fields["format_version"]) == ("bitnet", 5)
    assert verify(models[-1] / "packed", models[-1] / "m") == []


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed")
    model, _, tensors = ternary_model("autobitlinear", torch.float32)
    write(path / "m", model, "autobitlinear", tensors)
    pack_checkpoint(path / "m", path / "packed", 3)
    return path / "packed"


def hostile(columns):
    """Vectors of zeros, of tiny and of large values, with halves, and with one large value."""
    x = torch.randn(40, columns, generator=torch.manual_seed(0))
    x[1], x[2], x[3], x[4], x[5] = 0, x[2] * 1e-45, x[3] * 1e36, 7, x[5] * 1e-6
    x[6], x[7, 0], x[8] = torch.arange(columns) - 63.5, -1e4, -(x[8].abs())
    return x


@pytest.mark.parametrize("bits", [8, 16])
def test_backends_compute_the_same(packed, bits):
    checkpoint = PackedCheckpoint(packed)
    name = "model.layers.0.mlp.down_proj"
    x = hostile(checkpoint.matrices[name].shape[1])
    wanted = GoldenBackend(bits).prepare(checkpoint, name)(x)
    for backend in (CpuBackend(bits), TorchBackend(bits, device="cpu")):
        assert torch.equal(backend.prepare(checkpoint, name)(x), wanted)


def test_the_rule_changes_results(packed):
    """With 8 bits, and not with 16."""
    checkpoint, name = PackedCheckpoint(packed), "model.layers.0.mlp.down_proj"
    x = hostile(checkpoint.matrices[name].shape[1])
    results = {bits: [GoldenBackend(bits).prepare(checkpoint, name)(x)] for bits in (8, 16)}
    checkpoint.inputs = type(checkpoint.inputs)()
    for bits, found in results.items():
        found.append(GoldenBackend(bits).prepare(checkpoint, name)(x))
    assert not torch.equal(*results[8])
    assert torch.equal(*results[16])


def test_saving_keeps_the_rule(packed, tmp_path):
    AutoModelForCausalLM.from_pretrained(packed).save_pretrained(tmp_path / "saved")
    before, after = (PackedCheckpoint(path).config["quantization_config"]
                     for path in (packed, tmp_path / "saved"))
    assert (after["activations"], after["format_version"]) == ("bitnet", 5)
    assert {**before, "depths": {}} == {**after, "depths": {}}


def test_another_rule_is_refused(packed, tmp_path):
    config = json.loads((packed / "config.json").read_text())
    config["quantization_config"]["activations"] = "ternary"
    folder = tmp_path / "changed"
    folder.mkdir()
    (folder / "packed.safetensors").write_bytes((packed / "packed.safetensors").read_bytes())
    write_json(folder / "config.json", config)
    with pytest.raises(Exception, match=message(
            f"{folder / 'config.json'}: activations must be one of {', '.join(RULES)}, not "
            "'ternary'; update tritstream")):
        PackedCheckpoint(folder)
