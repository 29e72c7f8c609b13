"""Small random models of many architectures, made and saved by transformers itself."""

import warnings

import torch
import transformers

__all__ = ["ARCHITECTURES", "save_model"]

_SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "intermediate_size": 48, "bos_token_id": 1, "eos_token_id": 2,
          "pad_token_id": 0}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}

#: Name of the model class without its ending, and fields of its configuration, by model_type.
ARCHITECTURES = {
    "qwen2": ("Qwen2", "ForCausalLM", _SMALL),
    "qwen3": ("Qwen3", "ForCausalLM", {**_SMALL, "head_dim": 8}),
    "llama": ("Llama", "ForCausalLM", _SMALL),
    "mistral": ("Mistral", "ForCausalLM", _SMALL),
    "phi3": ("Phi3", "ForCausalLM", _SMALL),
    "gemma": ("Gemma", "ForCausalLM", {**_SMALL, "head_dim": 8}),
    "gemma2": ("Gemma2", "ForCausalLM", {**_SMALL, "head_dim": 8}),
    "gpt_neox": ("GPTNeoX", "ForCausalLM", _SMALL),
    "qwen2_moe": ("Qwen2Moe", "ForCausalLM", {
        **_SMALL, **_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 24}),
    "qwen3_moe": ("Qwen3Moe", "ForCausalLM", {
        **_SMALL, **_EXPERTS, "num_experts": 4, "head_dim": 8}),
    "mixtral": ("Mixtral", "ForCausalLM", {
        **_SMALL, "num_experts_per_tok": 2, "num_local_experts": 4}),
    "deepseek_v3": ("DeepseekV3", "ForCausalLM", {
        **_SMALL, **_EXPERTS, "num_key_value_heads": 4, "n_routed_experts": 8, "n_group": 2,
        "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1}),
    "gpt_oss": ("GptOss", "ForCausalLM", {
        **_SMALL, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}),
    "granitemoe": ("GraniteMoe", "ForCausalLM", {
        **_SMALL, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4_text": ("Llama4", "ForCausalLM", {
        **_SMALL, "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 40,
        "head_dim": 8}),
    "mamba": ("Mamba", "ForCausalLM", {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "bloom": ("Bloom", "ForCausalLM", {
        "vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": ("Falcon", "ForCausalLM", {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "gemma3_text": ("Gemma3", "ForCausalLM", {**_SMALL, "head_dim": 8}),
    "qwen2_vl": ("Qwen2VL", "ForConditionalGeneration", {
        "text_config": {**_SMALL, "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}},
        "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2,
                          "mlp_ratio": 2}}),
}


def save_model(path, kind, ending=None, **fields):
    """Write a random model of a model_type into a new directory, and return that."""
    name, usual, settings = ARCHITECTURES[kind]
    config = getattr(transformers, f"{name}{'Text' * kind.endswith('_text')}Config")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(transformers, name + (ending or usual))(config(**settings | fields))
        model.save_pretrained(path)
    return path
