"""Rotary embeddings (RoPE): base and scaling, from metadata and from the factors of Llama 3."""

import numpy as np

from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.fields import ORIGINAL, Fields
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.gguf.tensors import GgufTensor

__all__ = ["FACTORS", "rope_config"]

#: Name of the tensor with one factor per frequency.
FACTORS = "rope_freqs.weight"

_BASE = 10000.0
#: Constants of all models of the Llama 3 family. Only ``factor`` differs: the largest factor.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}


def rope_config(gguf: Gguf, fields: Fields, head: int) -> dict:
    """Return ``rope_theta``, and ``rope_scaling`` if present; ``head`` is the size of a head."""
    base = fields.number("rope.freq_base", _BASE)
    scaling = _scaling(fields)
    if FACTORS in gguf.tensors:
        if scaling:
            raise CheckpointError(f"{gguf.path}: has both {FACTORS} and rope.scaling, which cannot "
                                  "be mapped; " + ORIGINAL)
        scaling = _llama3(gguf, base, head)
    return {"rope_theta": base} | ({"rope_scaling": scaling} if scaling else {})


def _scaling(fields: Fields) -> dict | None:
    kind = fields.get("rope.scaling.type", "none")
    fields.get("rope.scaling.finetuned")
    if kind == "none":
        fields.neutral("rope.scaling.factor", 0.0, 1.0)
        fields.get("rope.scaling.original_context_length")
        return None
    if kind not in ("linear", "yarn"):
        raise fields.unmapped("rope.scaling.type", kind)
    scaling = {"rope_type": kind, "factor": fields.number("rope.scaling.factor")}
    original = fields.integer("rope.scaling.original_context_length",
                              1 if kind == "linear" else None)
    return scaling if kind == "linear" else scaling | {"original_max_position_embeddings": original}


def _llama3(gguf: Gguf, base: float, head: int) -> dict | None:
    """Return the scaling with the factors of the file, None if all factors are 1."""
    found = GgufTensor(FACTORS, gguf.path, gguf.tensors[FACTORS]).read()
    if found.shape == (head // 2,) and (found == 1).all():
        return None
    scaling = {"rope_type": "llama3", "factor": float(found.max()), **_LLAMA3}
    if found.shape != (head // 2,) or not _fit(found, base, head, scaling):
        raise CheckpointError(f"{gguf.path}: {FACTORS} is not that of Llama 3, the only one that "
                              "can be mapped; " + ORIGINAL)
    return scaling


def _fit(found: np.ndarray, base: float, head: int, scaling: dict) -> bool:
    """Return whether factors follow from a scaling, whose factor and base must be 1 or more."""
    if not 1 <= scaling["factor"] < np.inf or not 1 <= base < 1e30:
        return False
    return np.allclose(found.astype(np.float64), _factors(base, head, scaling), 1e-4)


def _factors(base: float, head: int, scaling: dict) -> np.ndarray:
    """Return the divisors of the frequencies, as transformers computes them for Llama 3."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    frequencies = base ** -(np.arange(0, head, 2) / head)
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / scaling["factor"] + smooth)
