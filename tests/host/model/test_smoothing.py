import numpy as np
import pytest
import torch

from tritstream.golden.activation import quantize_activation
from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.smoothed import (
    InputSet,
    SmoothedSource,
    input_sets,
    tensor_factors,
)
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.model.load import load_model
from tritstream.host.model.smoothing import ALPHAS, capture_inputs, choose, find_factors

from support.model_helpers import MODEL, logits, pack_llama, prompt_ids


def random_factors(sets):
    rng = np.random.default_rng(2)
    return [(each, rng.lognormal(size=each.channels.max() + 1).astype(np.float32))
            for each in sets]


def smoothed(path, out, factors):
    convert(SmoothedSource(open_source(path), tensor_factors(factors)), out)
    return out


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return pack_llama(tmp_path_factory.mktemp("llama"))[0]


def test_any_factors_leave_the_model_as_it_was(llama, tmp_path):
    ids = torch.arange(40)[None]
    for name, path in (("llama", llama), ("qwen2", MODEL)):
        model = load_model(path)
        out = smoothed(path, tmp_path / name, random_factors(input_sets(open_source(path))))
        same = load_model(out)
        assert not torch.equal(same.get_submodule("model.layers.0.mlp.down_proj").weight,
                               model.get_submodule("model.layers.0.mlp.down_proj").weight)
        torch.testing.assert_close(logits(same, ids), logits(model, ids), rtol=0, atol=1e-4)


def test_inputs_are_those_of_each_reader(llama):
    model = load_model(llama)
    sets = input_sets(open_source(llama))
    windows = [torch.arange(8), torch.arange(20, 30)]
    found = capture_inputs(model, sets, windows)
    assert [found[each.readers[0]].shape for each in sets] == [(18, len(s.channels)) for s in sets]
    norm = model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.arange(20, 30)))
    np.testing.assert_allclose(found["model.layers.0.self_attn.q_proj"][8:],
                               norm.detach().numpy(), rtol=1e-5)
    assert not model.model.layers[0].self_attn.q_proj._forward_pre_hooks


def outlier_case():
    """Vectors with one channel that is always large, and weights that are small there."""
    rng = np.random.default_rng(3)
    vectors, weight = rng.standard_normal((300, 64)), rng.standard_normal((100, 64))
    vectors[:, 7] *= 200
    weight[:, 7] /= 200
    return vectors.astype(np.float32), weight.astype(np.float32)


def test_choice_tames_an_outlier():
    vectors, weight = outlier_case()
    choice = choose(InputSet(("reader",), "norm", np.arange(64)), vectors, [weight], 3)
    assert choice.alpha >= 0.5
    assert choice.after < choice.before / 20
    levels, _ = quantize_activation(vectors / choice.factors)
    assert np.median(np.abs(levels)) > 10 * np.median(np.abs(quantize_activation(vectors)[0]))


def test_choice_keeps_what_is_even():
    rng = np.random.default_rng(4)
    vectors = rng.choice([-1.0, 1.0], (64, 32)).astype(np.float32)
    weight = rng.standard_normal((30, 32)).astype(np.float32)
    choice = choose(InputSet(("reader",), "norm", np.arange(32)), vectors, [weight], 2)
    assert choice.alpha == ALPHAS[0] == 0
    assert choice.before == choice.after
    np.testing.assert_array_equal(choice.factors, np.ones(32))


def test_channels_of_one_row_share_a_factor():
    vectors, weight = outlier_case()
    channels = np.arange(64) % 16
    choice = choose(InputSet(("reader",), "values", channels), vectors, [weight], 3)
    assert choice.factors.shape == (16,)
    assert choice.factors.argmax() == 7


def test_channels_that_are_always_zero():
    vectors, weight = outlier_case()
    vectors[:, 20] = 0
    choice = choose(InputSet(("reader",), "norm", np.arange(64)), vectors, [weight], 3)
    assert choice.after < choice.before / 20
    assert choice.factors[20] == choice.factors.min() > 0


def test_smoothing_makes_int8_better(tmp_path):
    # A channel of each norm is made large, as real models have them.
    sets = input_sets(open_source(MODEL))
    rough = []
    for each in sets:
        factors = np.ones(each.channels.max() + 1, np.float32)
        factors[5] = 1 / 64 if each.producer.endswith("layernorm") else 1
        rough.append((each, factors))
    smoothed(MODEL, tmp_path / "rough", rough)
    model, progress = load_model(tmp_path / "rough"), []
    choices = find_factors(model, sets, [prompt_ids()[0]], 3, progress.append)
    assert progress == [each.readers[0] for each in sets]
    smoothed(tmp_path / "rough", tmp_path / "even", [(c.inputs, c.factors) for c in choices])
    errors = []
    for name in ("rough", "even"):
        pack_checkpoint(tmp_path / name, tmp_path / f"{name}-d3", 3)
        golden = load_model(tmp_path / f"{name}-d3", backend="golden")
        errors.append((logits(golden) - logits(model)).norm().item())
    assert errors[1] < 0.7 * errors[0]


