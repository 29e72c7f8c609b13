"""Small models of transformers, packed, for the tests that run them."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.model.architecture import read_architecture
from tritstream.host.model.load import load_tokenizer

__all__ = ["CHAT_TEMPLATE", "MODEL", "PROMPT", "architecture_at", "greedy", "logits", "pack_llama",
           "prompt_ids"]

MODEL = Path(__file__).parents[2] / "models" / "tiny-qwen2"
PROMPT = "She had always wished to be a good"
CHAT_TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}" \
                "{% if add_generation_prompt %}[answer]{% endif %}"


def prompt_ids():
    """The prompt as a batch of one."""
    return torch.tensor([load_tokenizer(MODEL)(PROMPT).input_ids])


def architecture_at(path):
    """The architecture of a checkpoint that is not packed."""
    source = DirectorySource(path)
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    return read_architecture(path, source.config, shapes)


def greedy(model, count):
    """Ids of the new tokens after the prompt."""
    ids = prompt_ids()
    return model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
        do_sample=False)[0, ids.shape[1]:].tolist()


@torch.inference_mode()
def logits(model, ids=None):
    """Logits (tokens, vocabulary) of a pass over some ids, the prompt's by default."""
    return model(prompt_ids() if ids is None else ids).logits[0]


def pack_llama(path):
    """A random Llama of odd sizes, head not tied, biases everywhere; its directory, and packed."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=61, hidden_size=36, intermediate_size=52, num_hidden_layers=2,
        num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=False,
        attention_bias=True, mlp_bias=True)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    model.save_pretrained(path / "llama")
    pack_checkpoint(path / "llama", path / "packed", 3)
    return path / "llama", path / "packed"
