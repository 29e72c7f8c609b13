"""Options that select the matrices to pack, the architecture they belong to, and the result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tritstream.golden.checkpoints.default_rules import MERGED, MODULES_TO_NOT_CONVERT
from tritstream.golden.checkpoints.slices import Stack
from tritstream.golden.checkpoints.source_tensor import SourceTensor

__all__ = ["BY_NAME", "Architecture", "Choice", "Selection"]


@dataclass(frozen=True)
class Architecture:
    """Model that a config.json describes, as far as packing needs it.

    Tensors and modules are named as in the checkpoint.

    Members
    -------
    name : str
        Class of the model.
    runnable : frozenset of str
        Modules whose matrix can be replaced by a packed matrix.
    reasons : mapping
        Reason why the matrix of another module cannot be replaced, by module; by tensor if the
        tensor is no matrix.
    unknown : frozenset of str
        Tensors of the checkpoint that the model does not have.
    missing : tuple of str
        Tensors of the model that the checkpoint lacks, or has in another shape.
    heads : frozenset of str
        Modules that are the output head.
    axes : mapping
        Axes of a slice, one of :data:`.AXES`, for each tensor with three dimensions whose slices
        are matrices, by tensor. :func:`.slice_module` names the module of a slice.
    merged : mapping
        Tensor of the model into which a matrix is merged with other matrices, by module. Such
        matrices are packed together or not at all.
    """

    name:     str
    runnable: frozenset[str] = frozenset()
    reasons:  Mapping[str, str] = field(default_factory=dict)
    unknown:  frozenset[str] = frozenset()
    missing:  tuple[str, ...] = ()
    heads:    frozenset[str] = frozenset()
    axes:     Mapping[str, str] = field(default_factory=dict)
    merged:   Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Options that select the matrices to pack, and the architecture of the model if known.

    Members
    -------
    include : sequence of str
        Modules to quantize although the default is to keep them: full names or last parts.
    exclude : sequence of str
        Globs of modules to keep unquantized, for full names or last parts. They take precedence
        over ``include``.
    kept : sequence of str
        Modules to keep unless included, in addition to embeddings and norms.
    architecture : Architecture or None
        Architecture of the model. If None, modules are selected by name.
    """

    include:      Sequence[str] = ()
    exclude:      Sequence[str] = ()
    kept:         Sequence[str] = MODULES_TO_NOT_CONVERT
    architecture: Architecture | None = None


#: Default selection: linear layers by name.
BY_NAME = Selection()


@dataclass(frozen=True)
class Choice:
    """Result of a selection.

    Members
    -------
    matrices : dict
        Matrices to pack, by module name.
    reasons : dict
        Reasons for all other tensors, by tensor name.
    stacks : dict
        Tensors with three dimensions whose slices are among the matrices, by tensor name.
    merged : mapping
        As in :class:`Architecture`.
    """

    matrices: dict[str, SourceTensor]
    reasons:  dict[str, str]
    stacks:   dict[str, Stack] = field(default_factory=dict)
    merged:   Mapping[str, str] = field(default_factory=dict)

    def without(self, reasons: Mapping[str, str]) -> "Choice":
        """Return the choice without some matrices, and without those that are merged with them.

        ``reasons`` is by module. A reason for a slice counts for its complete tensor.
        """
        partial = {self.merged[module] for module in reasons if module in self.merged}
        dropped = {module: MERGED for module in self.matrices
                   if self.merged.get(module) in partial} | dict(reasons)
        matrices = {module: tensor for module, tensor in self.matrices.items()
                    if module not in dropped}
        kept = self.reasons | {f"{module}.weight": why for module, why in dropped.items()}
        stacks = dict(self.stacks)
        for name, stack in self.stacks.items():
            if stack.matrices.keys().isdisjoint(matrices):
                del stacks[name]
                whys = [kept.pop(tensor.name, MERGED) for tensor in stack.matrices.values()]
                kept[name] = next((why for why in whys if why != MERGED), MERGED)
        return Choice(matrices, kept, stacks, self.merged)

    def marks(self) -> dict[str, dict[str, str]]:
        """Return the metadata fields of each matrix that is a slice, by module name."""
        return {module: {"axes": stack.axes} for stack in self.stacks.values()
                for module in stack.matrices}
