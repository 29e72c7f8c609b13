"""Every mixture of experts of transformers that can be built with small sizes."""

import warnings

import pytest
import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.host.model.expert_uses import expert_parameters
from tritstream.host.model.load import load_model

from support.model_helpers import architecture_at, logits

IDS = torch.arange(3, 11)[None]
#: Sizes by the names that configurations have for them.
SIZES = {
    32: ("hidden_size", "ffn_hidden_size", "d_model"),
    48: ("intermediate_size", "intermediate_size_mlp"),
    64: ("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size"),
    128: ("max_position_embeddings",),
    16: ("moe_intermediate_size", "expert_ffn_hidden_size", "expert_intermediate_size",
         "q_lora_rank", "kv_lora_rank", "shared_intermediate_size",
         "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"),
    8: ("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "kv_channels",
        "rotary_dim", "global_head_dim", "index_head_dim", "linear_key_head_dim",
        "linear_value_head_dim", "mamba_d_state", "mamba_n_heads", "mamba_d_head",
        "mamba_num_heads", "mamba_head_dim", "ssm_state_size", "hidden_size_per_layer_input"),
    4: ("num_attention_heads", "num_experts", "num_local_experts", "n_routed_experts",
        "moe_num_experts", "index_topk", "mamba_d_conv", "mamba_dt_rank", "n_heads"),
    2: ("num_hidden_layers", "num_layers", "n_layers", "num_key_value_heads", "moe_k", "moe_topk",
        "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "eos_token_id",
        "linear_num_key_heads", "linear_num_value_heads", "index_n_heads"),
    1: ("bos_token_id", "n_group", "topk_group", "num_shared_experts", "n_shared_experts",
        "first_k_dense_replace", "num_dense_layers", "decoder_sparse_step", "mamba_n_groups",
        "moe_layer_start_index"),
    0: ("pad_token_id",),
}
#: Names that have other values where queries and keys are compressed.
OTHERWISE = ("head_dim", "num_key_value_heads")
#: Experts that stay unquantized, with a reason: a trial run finds no use by products with slices.
OWN_WAY = {"inkling_text", "inkling2_text", "inkling2_loop_text"}
KINDS = sorted(kind for kind, config in CONFIG_MAPPING.items()
               if config in MODEL_FOR_CAUSAL_LM_MAPPING)


def build(kind):
    """A small random model of a model_type; None if these sizes do not fit, or without experts."""
    config = CONFIG_MAPPING[kind]
    known = {name for base in config.__mro__ for name in getattr(base, "__annotations__", {})}
    sizes = {name: size for size, names in SIZES.items() for name in names if name in known}
    if "kv_lora_rank" in known:
        sizes = {name: size for name, size in sizes.items() if name not in OTHERWISE}
    made = MODEL_FOR_CAUSAL_LM_MAPPING[config]
    made = made[0] if isinstance(made, tuple) else made
    torch.manual_seed(0)
    try:
        with torch.device("meta"):
            whole = made(config(**sizes))
        if not any("expert" in place for place, *_ in expert_parameters(whole)):
            return None
        if sum(parameter.numel() for parameter in whole.parameters()) > 3e7:
            return None
        model = made(config(**sizes)).eval()
        logits(model, IDS)
    except Exception:
        # Configurations that require other sizes fail in any way.
        return None
    return model


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_experts_of_any_architecture(kind, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build(kind)
    if model is None:
        pytest.skip("it has no experts, or cannot be built with these sizes")
    model.save_pretrained(tmp_path / "m")
    architecture = architecture_at(tmp_path / "m")
    report = pack_checkpoint(tmp_path / "m", tmp_path / "o", 3, architecture=architecture)
    left = {reason for reason in report.reasons.values() if reason.startswith("experts of")}
    assert (not left) == (kind not in OWN_WAY), left
    # Some checkpoints have another name for experts, but then one tensor for all of them.
    assert any("expert" in name or info.axes
               for name, info in PackedCheckpoint(tmp_path / "o").matrices.items())
    export(tmp_path / "o", tmp_path / "e")
    exact = logits(load_model(tmp_path / "e"), IDS)
    found = logits(load_model(tmp_path / "o"), IDS)
    # The weights of the export are rounded to float16.
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02 * exact.abs().max().item())
    assert (logits(load_model(tmp_path / "m"), IDS) - exact).abs().max() > (
        3 * (found - exact).abs().max())
    assert verify(tmp_path / "o", tmp_path / "m", architecture=architecture) == []
