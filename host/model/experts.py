"""Experts with packed weights: the model's own code multiplies by modules in place of a parameter.

The eager code of all experts in transformers takes one expert of a parameter with three dimensions,
``weights[e]``, and multiplies by ``linear(x, weights[e])`` or ``x @ weights[e]``, or it multiplies
by all at once with ``bmm``. A :class:`Stack` does the same with the layers of the experts. Only
experts to which tokens are routed run, with the rows of these tokens.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from tritstream.golden.checkpoints.slices import INPUTS_FIRST, OUTPUTS_FIRST
from tritstream.host.model.merging import Merge

__all__ = ["BATCHED", "PRODUCTS", "Expert", "Stack", "set_eager", "stack_experts"]

#: Axes, one of :data:`.AXES`, of the matrix that a function takes as its second argument.
PRODUCTS: dict[Callable, str] = {functional.linear: OUTPUTS_FIRST} | dict.fromkeys(
    (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__, Tensor.__rmatmul__),
    INPUTS_FIRST)
#: Functions that multiply by all experts, whose matrices have the axes ``INPUTS_FIRST``.
BATCHED = (torch.bmm, Tensor.bmm)

_EAGER = "eager"


class Expert(nn.ModuleList):
    """Matrix (N, K) of one expert: linear layers whose results are concatenated.

    Parameters
    ----------
    layers : iterable of Module
        Layers without bias, from (..., K) to parts of (..., N).
    axes : str
        Axes as the model's code expects them, one of :data:`.AXES`.
    """

    def __init__(self, layers: Iterable[nn.Module], axes: str):
        super().__init__(layers)
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """Multiply float (..., K); return float (..., N)."""
        parts = [layer(x) for layer in self]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Iterable[type], arguments: tuple = (),
        options: dict | None = None,
    ) -> Tensor:
        """Multiply in place of a function of torch that takes the matrix as an argument."""
        x, weight, *biases = [*arguments, *(options or {}).values()]
        if not isinstance(weight, Expert) or PRODUCTS.get(function) != weight.axes:
            raise _unknown(function)
        product = weight(x)
        return product if biases in ([], [None]) else product + biases[0]


class Stack(nn.Module):
    """Replacement for a parameter (E, N, K) or (E, K, N) of experts.

    Members
    -------
    shape, dtype
        Shape and dtype of the parameter.
    experts : tuple of Expert
        Matrices in their order. They are not submodules, because their layers have places in the
        model by which they are loaded.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype):
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.experts: tuple[Expert, ...] = ()

    def __getitem__(self, index: int | Tensor) -> Expert:
        return self.experts[int(index)]

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Iterable[type], arguments: tuple = (),
        options: dict | None = None,
    ) -> Tensor:
        """Multiply by the matrices of all experts in place of ``bmm``."""
        x, stack = arguments if len(arguments) == 2 else (None, None)
        if not isinstance(stack, Stack) or function not in BATCHED:
            raise _unknown(function)
        return stack.batched(x)

    def batched(self, x: Tensor) -> Tensor:
        """Multiply float (E, T, K), one slice per expert; return float (E, T, N).

        Rows of zeros, for tokens that are routed to other experts, are not multiplied.
        """
        results = x.new_zeros(*x.shape[:2], self.shape[2])
        for expert, rows, out in zip(self.experts, x, results, strict=True):
            used = rows.any(dim=-1)
            if used.any():
                out[used] = expert(rows[used])
        return results


def stack_experts(
    model: PreTrainedModel, merge: Merge, places: Mapping[str, str],
    make: Callable[[str], nn.Module],
) -> None:
    """Replace a parameter of experts by a stack of layers.

    Parameters
    ----------
    model : PreTrainedModel
    merge : Merge
        Parameter to replace.
    places : mapping
        Module of the model for the layer of each matrix, which is created, by name of the matrix.
    make : callable
        Function from the name of a matrix to its linear layer.
    """
    parent, _, name = merge.place.rpartition(".")
    module = model.get_submodule(parent)
    stack = Stack(merge.shape, module.get_parameter(name).dtype)
    delattr(module, name)
    setattr(module, name, stack)
    layers = {matrix: make(matrix) for matrix in merge.matrices}
    for matrix, layer in layers.items():
        _put(model, places[matrix], layer)
    stack.experts = tuple(Expert([layers[matrix] for matrix in matrices], merge.axes)
                          for matrices in merge.experts)


def _put(model: nn.Module, place: str, layer: nn.Module) -> None:
    """Add a module at a place, and the modules that contain it."""
    *parents, name = place.split(".")
    for parent in parents:
        if parent not in model._modules:
            model.add_module(parent, nn.Module())
        model = model.get_submodule(parent)
    model.add_module(name, layer)


def set_eager(model: PreTrainedModel) -> None:
    """Let the experts of a model run one by one, in the code that its own module has."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if getattr(config, "_experts_implementation", _EAGER) != _EAGER:
            config._experts_implementation = _EAGER


def _unknown(function: Any) -> TypeError:
    name = getattr(function, "__name__", function)
    return TypeError(f"packed experts multiply by linear, @ and bmm only, not by {name}; load the "
                     f"model with experts_implementation=\"{_EAGER}\"")
