"""Packed models by from_pretrained, and the tensors of what they saved."""

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tritstream import TritstreamConfig
from tritstream.golden.packed.pack import pack_checkpoint

from support.model_helpers import MODEL

__all__ = ["load", "pack_shipped", "same_tensors", "tensors"]


def pack_shipped(path):
    """Pack the shipped model at depths 3 and 2 into a directory, and return that."""
    pack_checkpoint(MODEL, path, 3, overrides={"*.down_proj": 2})
    return path


def load(path, kind=AutoModelForCausalLM, dtype=torch.float32, **fields):
    return kind.from_pretrained(path, dtype=dtype, quantization_config=TritstreamConfig(**fields))


def tensors(path):
    """All tensors of a checkpoint by name."""
    return {name: tensor for file in path.glob("*.safetensors")
            for name, tensor in load_file(file).items()}


def same_tensors(one, other):
    mine, theirs = tensors(one), tensors(other)
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) and mine[name].dtype == theirs[name].dtype
        for name in mine)
