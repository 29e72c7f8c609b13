"""Default rules: which tensors stay unquantized by their names and shapes, and the reasons."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

__all__ = ["EXCLUDED", "MERGED", "MODULES_TO_NOT_CONVERT", "NO_FLOATS", "default_reason",
           "is_embedding_or_norm", "is_matrix", "names_module", "shape_reason"]

#: Modules that are not quantized by default, in addition to embeddings and norms.
MODULES_TO_NOT_CONVERT = ("lm_head",)

#: Reasons for which a tensor stays unquantized, as reports print them.
EXCLUDED, NO_FLOATS = "left out on request", "integers and booleans"
MERGED = "matrices that the model merges with unquantized matrices"
_ROUTERS = "routers and gates of experts"
_EMBEDDING, _HEAD, _VECTORS = "embeddings", "output head", "norms, biases and other vectors"
_FUSED, _OTHER_SHAPES = "fused experts", "tensors that are no matrices"

_NOT_LINEAR = ("embed", "norm", "wte", "wpe")
#: Globs for parts of module names, by reason: modules that lose much accuracy and have few weights.
_KEPT_PARTS = {
    _ROUTERS: (
        "gate", "router", "*_router", "router_*", "shared_expert_gate", "shared_experts_gate",
        "gate_network"),
    "gates of linear attention": ("in_proj_a", "in_proj_b", "in_proj_ba"),
    "vision and audio parts": (
        "*vision*", "*visual*", "*image*", "*audio*", "*multi_modal_projector*", "*mm_projector*"),
    "classification heads": (
        "score", "classifier", "classification_head", "qa_outputs", "v_head", "value_head",
        "reward_head", "regression_head"),
    _HEAD: ("embed_out", "output_projection"),
    _EMBEDDING: ("shared", "tokens_embed", "relative_attention_bias"),
}
#: Additional globs for an unknown architecture: modules that the model may not have, or not run.
_UNSURE_PARTS = {
    "not part of a plain model": (
        "_orig_mod", "module", "base_model", "lora_*", "mtp*", "*nextn*"),
    "experts of an unknown architecture": ("experts",),
    "weights that state space models use directly": ("x_proj", "dt_proj"),
}


def default_reason(
    module: str, kept: Sequence[str], heads: Iterable[str], known: bool, expert: bool = False,
) -> str | None:
    """Return why a matrix stays unquantized unless it is included; None for a linear layer.

    Parameters
    ----------
    module : str
        Name of the module.
    kept : sequence of str
        Modules to keep, in addition to embeddings and norms.
    heads : iterable of str
        Modules that are the output head.
    known : bool
        Whether the architecture is known, so that only modules of the model are asked about.
    expert : bool
        Whether the matrix belongs to an expert, so that it is no router whatever its name.
    """
    if module in heads or names_module({*kept} & {*MODULES_TO_NOT_CONVERT}, module):
        return _HEAD
    if names_module(kept, module):
        return EXCLUDED
    if is_embedding_or_norm(module):
        return _EMBEDDING
    rules = _KEPT_PARTS if known else _KEPT_PARTS | _UNSURE_PARTS
    return _part_reason(module, {reason: globs for reason, globs in rules.items()
                                 if not (expert and reason == _ROUTERS)})


def shape_reason(name: str, shape: Sequence[int]) -> str:
    """Return why a tensor that is not a matrix ``MODULE.weight`` stays unquantized."""
    if len(shape) < 2 or name.endswith("bias"):
        return _VECTORS
    if "experts" in name:
        return _FUSED
    return _part_reason(name, _KEPT_PARTS) or _OTHER_SHAPES


def is_matrix(name: str, shape: Sequence[int]) -> bool:
    """Return whether a tensor is a matrix ``MODULE.weight`` that is not empty."""
    return name.endswith(".weight") and len(shape) == 2 and 0 not in shape


def is_embedding_or_norm(module: str) -> bool:
    """Return whether part of a module's name is that of an embedding or a norm."""
    return any(word in part for part in module.split(".") for word in _NOT_LINEAR)


def names_module(names: Iterable[str], module: str) -> bool:
    """Return whether one of ``names`` is the module, or consecutive parts of its name."""
    return any(f".{name}." in f".{module}." for name in names)


def _part_reason(module: str, rules: Mapping[str, Sequence[str]]) -> str | None:
    """Return the reason of the first rule with a glob that matches a part of a module's name."""
    for reason, globs in rules.items():
        if any(fnmatchcase(part, glob) for part in module.split(".") for glob in globs):
            return reason
    return None
