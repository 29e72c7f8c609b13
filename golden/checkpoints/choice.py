"""Which tensors of a checkpoint are packed, and why each of the others is kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from tritstream.golden.checkpoints.safetensors_reader import DTYPES, FLOATS
from tritstream.golden.errors import CheckpointError

if TYPE_CHECKING:
    from tritstream.golden.checkpoints.source_tensor import SourceTensor

__all__ = ["BY_NAME", "MODULES_TO_NOT_CONVERT", "Architecture", "Choice", "Selection", "choose",
           "is_linear"]

#: Modules that are not quantized, besides embeddings and norms.
MODULES_TO_NOT_CONVERT = ("lm_head",)

#: Why a tensor is kept, in the words of a report.
EMBEDDING, HEAD, VECTORS = "embeddings", "output head", "norms, biases and other vectors"
EXCLUDED, NO_FLOATS = "left out on request", "integers and booleans"
FUSED, OTHER_SHAPES = "fused experts", "tensors that are no matrices"

_NOT_LINEAR = ("embed", "norm", "wte", "wpe")
#: Modules that lose much and weigh little; any part of a module's name may match.
_KEPT_PARTS = {
    "routers and gates of experts": (
        "gate", "router", "*_router", "router_*", "shared_expert_gate", "shared_experts_gate",
        "gate_network"),
    "vision and audio parts": (
        "*vision*", "*visual*", "*image*", "*audio*", "*multi_modal_projector*", "*mm_projector*"),
    "classification heads": (
        "score", "classifier", "classification_head", "qa_outputs", "v_head", "value_head",
        "reward_head", "regression_head"),
    HEAD: ("embed_out", "output_projection"),
    EMBEDDING: ("shared", "tokens_embed", "relative_attention_bias"),
}
#: The same where nobody knows the architecture: modules that a model may not have, or not run.
_UNSURE_PARTS = {
    "not part of a plain model": (
        "_orig_mod", "module", "base_model", "lora_*", "mtp*", "*nextn*"),
    "experts, which only an architecture that is known can tell": ("experts",),
    "weights that state space models use directly": ("x_proj", "dt_proj"),
}


@dataclass(frozen=True)
class Architecture:
    """The model that a config.json describes, as far as packing has to know it.

    Names of tensors and modules are those of the checkpoint.

    Members
    -------
    name : str
        Class of the model.
    runnable : frozenset of str
        Modules whose matrix can be replaced by a packed one.
    reasons : mapping
        Why the matrix of another module cannot, by module.
    unknown : frozenset of str
        Tensors of the checkpoint that the model does not have.
    missing : tuple of str
        What the model has and the checkpoint lacks: a tensor, or a tensor of that shape.
    heads : frozenset of str
        Modules that are the output head.
    """

    name:     str
    runnable: frozenset[str] = frozenset()
    reasons:  Mapping[str, str] = field(default_factory=dict)
    unknown:  frozenset[str] = frozenset()
    missing:  tuple[str, ...] = ()
    heads:    frozenset[str] = frozenset()


@dataclass(frozen=True)
class Selection:
    """What a user asks for, and the architecture if it is known.

    Members
    -------
    include : sequence of str
        Modules to quantize although they are kept by default: their name, or its last parts.
    exclude : sequence of str
        Globs of modules to keep, of their name or its last parts; they win over ``include``.
    kept : sequence of str
        Modules to keep unless included, besides embeddings and norms.
    architecture : Architecture or None
        Without one, modules are chosen by their names.
    """

    include:      Sequence[str] = ()
    exclude:      Sequence[str] = ()
    kept:         Sequence[str] = MODULES_TO_NOT_CONVERT
    architecture: Architecture | None = None


#: What is chosen where nobody asks for anything else: linear layers, by their names.
BY_NAME = Selection()


@dataclass(frozen=True)
class Choice:
    """Matrices to be packed, by module name; why every other tensor is kept, by tensor name."""

    matrices: dict[str, "SourceTensor"]
    reasons:  dict[str, str]


def choose(path: Path, tensors: Mapping[str, "SourceTensor"], selection: Selection) -> Choice:
    """Decide for each tensor of a checkpoint.

    Raises :class:`CheckpointError` when no matrix is left to be packed, one is of a float dtype
    that is not quantized, a pattern fits nothing, or a module to include cannot be run packed.
    """
    modules = [name.removesuffix(".weight") for name, tensor in tensors.items()
               if _is_matrix(name, tensor.shape)]
    included = {module for name in selection.include for module in _included(path, name, modules)}
    _check_used(path, selection.exclude, modules)
    found, reasons = {}, {}
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        reason = _reason(name, tensor, selection, module in included)
        if reason is None:
            found[module] = tensor
        else:
            reasons[name] = reason
            _check_included(path, module in included and _is_matrix(name, tensor.shape), module,
                            reason, selection)
    _check_found(path, found, tensors, selection)
    return Choice(found, reasons)


def is_linear(
    name: str, shape: Sequence[int], kept: Iterable[str] = MODULES_TO_NOT_CONVERT,
) -> bool:
    """Whether a tensor is, by its name, the weight of a linear layer that is to be quantized.

    It is a matrix named ``MODULE.weight``; no part of MODULE names an embedding or a norm, and
    none of ``kept`` is MODULE, a part of it, or a run of its parts.
    """
    if not _is_matrix(name, shape):
        return False
    module = name.removesuffix(".weight")
    return not _is_embedding(module) and not _is_kept(module, kept)


def _reason(
    name: str, tensor: "SourceTensor", selection: Selection, included: bool,
) -> str | None:
    """Why a tensor is kept; None for a matrix to be packed."""
    module, architecture = name.removesuffix(".weight"), selection.architecture
    if architecture and name in architecture.unknown:
        return f"not part of {architecture.name}"
    if not _is_matrix(name, tensor.shape):
        return _shape_reason(name, tensor.shape)
    if tensor.dtype in DTYPES and DTYPES[tensor.dtype].kind in "biu":
        return NO_FLOATS
    if not included and (reason := _default_reason(module, selection)):
        return reason
    if architecture and module not in architecture.runnable:
        return architecture.reasons.get(module, f"not part of {architecture.name}")
    return EXCLUDED if _fits(module, selection.exclude) else None


def _default_reason(module: str, selection: Selection) -> str | None:
    """Why a matrix is kept unless somebody asks for it."""
    architecture = selection.architecture
    heads = architecture.heads if architecture else ()
    if module in heads or _is_kept(module, {*selection.kept} & {*MODULES_TO_NOT_CONVERT}):
        return HEAD
    if _is_kept(module, selection.kept):
        return EXCLUDED
    if _is_embedding(module):
        return EMBEDDING
    return _part_reason(module, _KEPT_PARTS if architecture else _KEPT_PARTS | _UNSURE_PARTS)


def _part_reason(module: str, rules: Mapping[str, Sequence[str]]) -> str | None:
    """The first rule of which a glob fits a part of a module's name."""
    for reason, globs in rules.items():
        if any(fnmatchcase(part, glob) for part in module.split(".") for glob in globs):
            return reason
    return None


def _shape_reason(name: str, shape: Sequence[int]) -> str:
    if len(shape) < 2:
        return VECTORS
    if "experts" in name:
        return FUSED
    return _part_reason(name, _KEPT_PARTS) or OTHER_SHAPES


def _is_matrix(name: str, shape: Sequence[int]) -> bool:
    return name.endswith(".weight") and len(shape) == 2 and 0 not in shape


def _is_embedding(module: str) -> bool:
    return any(word in part for part in module.split(".") for word in _NOT_LINEAR)


def _is_kept(module: str, kept: Iterable[str]) -> bool:
    return any(f".{one}." in f".{module}." for one in kept)


def _fits(module: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(module, glob) or fnmatchcase(module, f"*.{glob}") for glob in globs)


def _included(path: Path, name: str, modules: Iterable[str]) -> list[str]:
    found = [module for module in modules if f".{module}".endswith(f".{name}")]
    if not found:
        raise CheckpointError(f"{path}: has no matrix {name} to include; a model that ties its "
                              "head to its embedding has model.embed_tokens only")
    return found


def _check_used(path: Path, globs: Iterable[str], modules: Sequence[str]) -> None:
    for glob in globs:
        if not any(_fits(module, [glob]) for module in modules):
            raise CheckpointError(f"{path}: no matrix is named {glob}, which is to be left out; "
                                  "check the name")


def _check_included(
    path: Path, included: bool, module: str, reason: str, selection: Selection,
) -> None:
    """What is to be included must be possible; that it is left out too is for the user to say."""
    if included and not _fits(module, selection.exclude):
        raise CheckpointError(f"{path}: {module} cannot be included ({reason}); leave it out")


def _check_found(
    path: Path, found: Mapping[str, "SourceTensor"], tensors: Mapping[str, "SourceTensor"],
    selection: Selection,
) -> None:
    unknown = selection.architecture.unknown if selection.architecture else ()
    if not found and any(_is_matrix(name, tensors[name].shape) for name in unknown):
        name = min(name for name in unknown if _is_matrix(name, tensors[name].shape))
        raise CheckpointError(
            f"{path}: has no linear layer to quantize: {selection.architecture.name} has no "
            f"{name}, nor {len(unknown) - 1} others of these tensors; check the names' prefix and "
            "config.json")
    if not found:
        raise CheckpointError(f"{path}: has no linear layer to quantize; check the model")
    for tensor in found.values():
        if tensor.dtype not in FLOATS:
            raise CheckpointError(f"{tensor.path}: {tensor.name} must be {', '.join(FLOATS)}, "
                                  f"not {tensor.dtype}; convert the model first")
