"""Models whose matrices have groups of other lengths and scales of their source."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tritstream.golden.activation import quantize_activation
from tritstream.golden.gemv import gemv, results
from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.host.model.backends import CpuBackend, GoldenBackend, TorchBackend
from tritstream.host.model.config import TritstreamConfig
from tritstream.host.model.held import set_backend
from tritstream.host.model.load import load_model
from tritstream.host.model.replacement import packed_layers

from support.golden_cases import direct_matrix, integer_matrix
from support.grouped import write_grouped
from support.model_helpers import logits

CONFIG = LlamaConfig(vocab_size=61, hidden_size=80, intermediate_size=112, num_hidden_layers=1,
                     num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
IDS = torch.arange(20)[None]
KINDS = [
    lambda n, k: direct_matrix(n, k, 1, 16, seed=n),
    lambda n, k: direct_matrix(n, k, 1, 32, ml_dtypes.bfloat16, seed=n),
    lambda n, k: direct_matrix(n, k, 1, k, ml_dtypes.bfloat16, inverse=True, single=True),
    lambda n, k: direct_matrix(n, k, 2, 48, np.float32, seed=n),
    lambda n, k: integer_matrix(n, k, 3, group=64),
    lambda n, k: direct_matrix(n, k, 1, k, seed=n),
    lambda n, k: direct_matrix(n, k, 4, 64, seed=n),
    lambda n, k: integer_matrix(n, k, 2, group=16),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The packed model, its matrices, and the model with their weights."""
    path = tmp_path_factory.mktemp("grouped")
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG).eval()
    matrices, more = {}, {}
    for name, value in model.state_dict().items():
        module = name.removesuffix(".weight")
        if "_proj" in name or name == "lm_head.weight":
            matrices[module] = KINDS[len(matrices)](*value.shape)
            value.copy_(torch.from_numpy(dequantize(matrices[module])))
        else:
            more[name] = value.numpy()
    write_grouped(path / "m", path / "packed", matrices, config=CONFIG.to_dict(), more=more)
    return path / "packed", matrices, model


def test_products_are_those_of_golden(models):
    path, matrices, _ = models
    checkpoint = PackedCheckpoint(path)
    for name, matrix in matrices.items():
        x = torch.randn(3, matrix.shape[1], generator=torch.manual_seed(1))
        levels, scales = quantize_activation(x.numpy())
        wanted = results(gemv(matrix, levels), matrix.scales.units, matrix.depth, scales)
        assert (GoldenBackend().prepare(checkpoint, name)(x).numpy() == wanted).all(), name


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [CpuBackend, partial(TorchBackend, device="cpu")])
def test_backends_compute_what_golden_does(models, kind, bits):
    assert torch.equal(logits(load_model(models[0], backend=kind(bits)), IDS),
                       logits(load_model(models[0], backend=GoldenBackend(bits)), IDS))


def test_the_reference_computes_with_the_stored_values(models):
    path, _, model = models
    assert torch.equal(logits(load_model(path), IDS), logits(model, IDS))


def test_layers_give_up_trits_that_a_backend_has(models):
    path, matrices, _ = models
    model = load_model(path, backend="cpu")
    layers = {layer.matrix: layer for layer in packed_layers(model)}
    assert {len(layer.trits) for layer in layers.values()} == {0}
    held = vars(model)["hf_quantizer"].checkpoint
    for name, matrix in matrices.items():
        assert dequantize(held.matrix(name)).tobytes() == dequantize(matrix).tobytes()
    set_backend(model, GoldenBackend())
    assert all(len(layer.trits) for layer in layers.values())


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
@pytest.mark.parametrize(("dtype", "backend"), [
    (torch.float32, "golden"), (torch.bfloat16, "golden"), (torch.float32, "cpu")])
def test_a_saved_model_is_the_same(models, tmp_path, dtype, backend):
    model = AutoModelForCausalLM.from_pretrained(
        models[0], dtype=dtype, quantization_config=TritstreamConfig(backend=backend))
    model.save_pretrained(tmp_path / "saved")
    assert [finding for finding in verify(tmp_path / "saved") if finding.kind == "error"] == []
    before, after = PackedCheckpoint(models[0]), PackedCheckpoint(tmp_path / "saved")
    for name in before.matrices:
        assert after.matrices[name] == before.matrices[name]
        for ours, theirs in zip(after.tensors_of(name), before.tensors_of(name), strict=True):
            assert ours.read().tobytes() == theirs.read().tobytes()
    assert after.config["quantization_config"]["format_version"] == 5


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_plain_weights(models):
    path, _, model = models
    loaded = AutoModelForCausalLM.from_pretrained(
        path, quantization_config=TritstreamConfig(dequantize=True), dtype=torch.float32)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
