"""Selection of the matrices to pack, and the reasons why other tensors stay unquantized."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from tritstream.golden.checkpoints.default_rules import (
    EXCLUDED,
    MODULES_TO_NOT_CONVERT,
    NO_FLOATS,
    default_reason,
    is_embedding_or_norm,
    is_matrix,
    names_module,
    shape_reason,
)
from tritstream.golden.checkpoints.safetensors_reader import DTYPES, FLOATS
from tritstream.golden.checkpoints.selection import BY_NAME, Architecture, Choice, Selection
from tritstream.golden.checkpoints.slices import Stack, stack_of
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError

__all__ = ["BY_NAME", "MODULES_TO_NOT_CONVERT", "Architecture", "Choice", "Selection", "choose",
           "is_linear"]


def choose(path: Path, tensors: Mapping[str, SourceTensor], selection: Selection) -> Choice:
    """Select the matrices of a checkpoint to pack.

    Raises :class:`CheckpointError` if no matrix is selected, if a selected matrix has a dtype that
    cannot be quantized, if a pattern matches no matrix, or if an included module cannot run packed.
    """
    stacks = _stacks(tensors, selection.architecture)
    candidates = {tensor.name: tensor for name, whole in tensors.items()
                  for tensor in (stacks[name].matrices.values() if name in stacks else [whole])}
    modules = [name.removesuffix(".weight") for name, tensor in candidates.items()
               if is_matrix(name, tensor.shape)]
    included = {module for name in selection.include for module in _included(path, name, modules)}
    _check_used(path, selection.exclude, modules)
    found, reasons = {}, {}
    for name, tensor in candidates.items():
        module = name.removesuffix(".weight")
        reason = _reason(name, tensor, selection, module in included)
        if reason is None:
            found[module] = tensor
        else:
            reasons[name] = reason
            _check_included(path, module in included and is_matrix(name, tensor.shape), module,
                            reason, selection)
    choice = _complete(Choice(found, reasons, stacks), selection.architecture)
    _check_found(path, choice.matrices, tensors, selection)
    return choice


def _stacks(
    tensors: Mapping[str, SourceTensor], architecture: Architecture | None,
) -> dict[str, Stack]:
    """Return the tensors whose slices are candidates."""
    axes = architecture.axes if architecture else {}
    found = {name: stack_of(tensors[name], own) for name, own in axes.items()}
    return {name: stack for name, stack in found.items() if stack}


def _complete(choice: Choice, architecture: Architecture | None) -> Choice:
    """Leave out matrices that the model merges with matrices that are not packed."""
    merged = architecture.merged if architecture else {}
    kept = {name.removesuffix(".weight"): reason for name, reason in choice.reasons.items()}
    return replace(choice, merged=merged).without(
        {module: reason for module, reason in kept.items() if module in merged})


def is_linear(
    name: str, shape: Sequence[int], kept: Iterable[str] = MODULES_TO_NOT_CONVERT,
) -> bool:
    """Return whether a tensor is, by its name, the weight of a linear layer to quantize.

    The tensor must be a matrix ``MODULE.weight``. No part of MODULE may name an embedding or a
    norm, and no name in ``kept`` may be MODULE or consecutive parts of MODULE.
    """
    if not is_matrix(name, shape):
        return False
    module = name.removesuffix(".weight")
    return not is_embedding_or_norm(module) and not names_module(kept, module)


def _reason(
    name: str, tensor: SourceTensor, selection: Selection, included: bool,
) -> str | None:
    """Return why a tensor stays unquantized, None for a matrix to pack."""
    module, architecture = name.removesuffix(".weight"), selection.architecture
    if architecture and name in architecture.unknown:
        return f"not part of {architecture.name}"
    if not is_matrix(name, tensor.shape):
        known = architecture.reasons if architecture else {}
        return known.get(name) or shape_reason(name, tensor.shape)
    if tensor.dtype in DTYPES and DTYPES[tensor.dtype].kind in "biu":
        return NO_FLOATS
    heads = architecture.heads if architecture else frozenset()
    expert = architecture is not None and module in architecture.merged
    reason = default_reason(module, selection.kept, heads, known=architecture is not None,
                            expert=expert)
    if reason and not included:
        return reason
    if architecture and module not in architecture.runnable:
        return architecture.reasons.get(module, f"not part of {architecture.name}")
    return EXCLUDED if _fits(module, selection.exclude) else None


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
    """Raise if a module to include cannot be packed, unless it is excluded as well."""
    if included and not _fits(module, selection.exclude):
        raise CheckpointError(f"{path}: {module} cannot be included ({reason}); leave it out")


def _check_found(
    path: Path, found: Mapping[str, SourceTensor], tensors: Mapping[str, SourceTensor],
    selection: Selection,
) -> None:
    architecture = selection.architecture
    if not found and architecture:
        unknown = architecture.unknown
        matrices = [name for name in unknown if is_matrix(name, tensors[name].shape)]
        if matrices:
            raise CheckpointError(
                f"{path}: has no linear layer to quantize: {architecture.name} has no "
                f"{min(matrices)}, nor {len(unknown) - 1} others of these tensors; check the "
                "names' prefix and config.json")
    if not found:
        raise CheckpointError(f"{path}: has no linear layer to quantize; check the model")
    for tensor in found.values():
        if tensor.dtype not in FLOATS:
            raise CheckpointError(f"{tensor.path}: {tensor.name} must be {', '.join(FLOATS)}, "
                                  f"not {tensor.dtype}; convert the model first")
