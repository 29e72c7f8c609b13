"""Small random models of many architectures, made by transformers, and changed shipped models."""

import shutil
import warnings

import torch
import transformers
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.host.model.load import load_model
from tritstream.scripts.weights.architecture import architecture_of, packed_architecture

from support.model_helpers import MODEL

__all__ = ["ARCHITECTURES", "IDS", "changed", "found_in", "logits", "packed", "save_model",
           "shipped"]

_SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "intermediate_size": 48, "bos_token_id": 1, "eos_token_id": 2,
          "pad_token_id": 0}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}

#: Name of the model class without its ending, and fields of its configuration, by model_type.
ARCHITECTURES = {
    "qwen2": ("Qwen2", "ForCausalLM", _SMALL),
    "qwen3": ("Qwen3", "ForCausalLM", {**_SMALL, "head_dim": 8}),
    "qwen3_5_text": ("Qwen3_5", "ForCausalLM", {
        **_SMALL, "head_dim": 8, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "layer_types": ["linear_attention", "full_attention"]}),
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

#: Tokens of which the logits are compared.
IDS = torch.arange(3, 11)[None]


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


def packed(source, **options):
    """Pack a model as the command does; return its path and the path of the packed model."""
    architecture = architecture_of(DirectorySource(source)).architecture
    out = source.parent / f"packed{len(list(source.parent.iterdir()))}"
    pack_checkpoint(source, out, 3, architecture=architecture, **options)
    return source, out


@torch.inference_mode()
def logits(path, **options):
    """Return the logits of eight tokens: (8, vocabulary)."""
    return load_model(path, **options)(input_ids=IDS).logits[0]


def found_in(path):
    """Return the findings of ``verify``, with the architecture of the model."""
    checkpoint = PackedCheckpoint(path)
    return verify(path, architecture=packed_architecture(checkpoint).architecture)


def changed(tmp_path, change):
    """Copy the shipped model, and apply ``change`` to its tensors."""
    path = shutil.copytree(MODEL, tmp_path / "m")
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


def shipped(tmp_path):
    """Copy the shipped model into a writable directory."""
    return shutil.copytree(MODEL, tmp_path / "plain" / "m")
