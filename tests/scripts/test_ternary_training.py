"""Training with ternary weights: what is computed while training is what is stored."""

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tritstream.scripts.training.learning import Recipe, fit
from tritstream.scripts.training.ternary import make_ternary, stored_tensors

with pytest.MonkeyPatch.context() as patch:
    # transformers compiles functions when this module is imported, which takes seconds.
    patch.setattr(torch, "compile", lambda function: function)
    from transformers.integrations.bitnet import WeightQuant, unpack_weights

Q = "model.layers.0.self_attn.q_proj"


def test_a_ternary_model_learns_and_is_stored():
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True, bos_token_id=0,
        eos_token_id=0))
    before = model.get_parameter(f"{Q}.weight").detach().clone()
    make_ternary(model)
    assert torch.equal(model.get_parameter(f"{Q}.weight"), before)
    assert type(model.get_output_embeddings()) is torch.nn.Linear
    losses = []
    fit(model, torch.arange(200) * 3 % 32, Recipe(steps=30, context=16, warmup=5), losses.append)
    assert losses[-1] < 0.75 * losses[0]
    tensors = stored_tensors(model)
    assert "lm_head.weight" not in tensors
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        levels = unpack_weights(tensors[name], torch.float32)
        computed = WeightQuant.apply(model.get_parameter(name))
        scale = tensors[f"{name}_scale"]
        assert scale.dtype == torch.bfloat16
        # The scale is rounded to bfloat16.
        torch.testing.assert_close(levels * scale, computed, rtol=2 ** -8, atol=0)
    scale, bias = (tensors[f"{Q}.{part}"].float() for part in ("weight_scale", "bias"))
    torch.testing.assert_close(scale * bias, model.get_parameter(f"{Q}.bias").data, rtol=0.01,
                               atol=0)
