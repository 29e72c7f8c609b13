"""Experts with packed weights: the model's own code multiplies by modules in place of a parameter.

The eager code of all experts in transformers takes one expert of a parameter with three dimensions,
``weights[e]``, and multiplies by ``linear(x, weights[e])`` or ``x @ weights[e]``, or it multiplies
by all at once with ``bmm``. A :class:`Stack` does the same with the layers of the experts. Only
experts to which tokens are routed run, with the rows of these tokens.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from tritstream.golden.checkpoints.slices import INPUTS_FIRST, OUTPUTS_FIRST
from tritstream.host.model.merging import Merge, find_merges
from tritstream.host.model.skeleton import TensorNames
from tritstream.host.placement.work import EXPERT_COUNTS

__all__ = ["BATCHED", "PRODUCTS", "Expert", "Stack", "routed_shares", "set_eager",
           "split_experts", "stack_experts"]

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
    rows : int
        Rows N of all layers together.
    """

    def __init__(self, layers: Iterable[nn.Module], axes: str, rows: int):
        super().__init__(layers)
        self.axes, self.rows = axes, rows

    def forward(self, x: Tensor) -> Tensor:
        """Multiply float (..., K); return float (..., N)."""
        if not x.numel():
            return x.new_zeros(*x.shape[:-1], self.rows)
        parts = [layer(x) for layer in self]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Iterable[type], arguments: tuple = (),
        options: dict | None = None,
    ) -> Tensor:
        """Multiply in place of a function of torch that takes the matrix as an argument."""
        x, weight, bias = (*arguments, *(options or {}).values(), None, None, None)[:3]
        if not isinstance(weight, Expert) or PRODUCTS.get(function) != weight.axes:
            raise _unknown(function)
        product = weight(x)
        return product if bias is None else product + bias


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
        x, stack = (*arguments, None, None)[:2]
        if isinstance(x, Tensor) and isinstance(stack, Stack) and function in BATCHED:
            return stack.batched(x)
        raise _unknown(function)

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
    stack.experts = tuple(
        Expert([layers[matrix] for matrix in matrices], merge.axes,
               sum(merge.rows[matrix] for matrix in matrices)) for matrices in merge.experts)


def _put(model: nn.Module, place: str, layer: nn.Module) -> None:
    """Add a module at a place, and the modules that contain it."""
    *parents, name = place.split(".")
    for parent in parents:
        if parent not in model._modules:
            model.add_module(parent, nn.Module())
        model = model.get_submodule(parent)
    model.add_module(name, layer)


def split_experts(
    model: PreTrainedModel, shapes: Mapping[str, tuple[int, ...]], stacked: Mapping[str, str],
    matrices: Container[str],
) -> dict[str, str]:
    """Replace unquantized parameters of experts by stacks of linear layers with the same weights.

    Parameters
    ----------
    model : PreTrainedModel
    shapes, stacked : mapping
        Tensors of the checkpoint, as for :func:`.find_merges`.
    matrices : container of str
        Matrices that need a linear layer, by name.

    Returns the module of the layer of each of these matrices, by name of the matrix.
    """
    places: dict[str, str] = {}
    for merge in find_merges(model, TensorNames(model), shapes, stacked):
        if not all(name in matrices for name in merge.matrices):
            continue
        weights = _views(model.get_parameter(merge.place), merge)
        own = {name: f"{merge.place}.{expert}.{part}"
               for expert, matrices in enumerate(merge.experts)
               for part, name in enumerate(matrices)}
        stack_experts(model, merge, own, partial(_linear, weights))
        places |= own
    set_eager(model)
    return places


def _views(parameter: Tensor, merge: Merge) -> dict[str, Tensor]:
    """Return the weights (N, K) of each matrix as parts of the parameter."""
    found: dict[str, Tensor] = {}
    for whole, matrices in zip(parameter.detach(), merge.experts, strict=True):
        rows = whole if merge.axes == OUTPUTS_FIRST else whole.T
        found |= zip(matrices, rows.split([merge.rows[name] for name in matrices]), strict=True)
    return found


def _linear(weights: Mapping[str, Tensor], name: str) -> nn.Linear:
    rows, columns = weights[name].shape
    layer = nn.Linear(columns, rows, bias=False, device="meta")
    layer.weight = nn.Parameter(weights[name], requires_grad=False)
    return layer


def routed_shares(model: PreTrainedModel) -> dict[str, float]:
    """Return the share of tokens, 0..1, for which each packed matrix of an expert is read, by name.

    A model whose configuration does not say how many experts a token has is taken to read all.
    """
    shares = {}
    for module in model.modules():
        config = getattr(module, "config", None) or model.config.get_text_config()
        for stack in (child for child in module.children() if isinstance(child, Stack)):
            count = next((getattr(config, name) for name in EXPERT_COUNTS
                          if isinstance(getattr(config, name, None), int)), len(stack.experts))
            for expert in stack.experts:
                for layer in expert:
                    shares[getattr(layer, "matrix", "")] = min(1.0, count / len(stack.experts))
    return shares


def set_eager(model: PreTrainedModel) -> None:
    """Let the experts of a model run one by one, in the code that its own module has."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and getattr(config, "_experts_implementation", _EAGER) != _EAGER:
            config._experts_implementation = _EAGER


def _unknown(function: Any) -> RuntimeError:
    # No TypeError: torch would take it for a missing operator.
    name = getattr(function, "__name__", function)
    return RuntimeError(f"packed experts multiply by linear, @ and bmm only, not by {name}; load "
                        f"the model with experts_implementation=\"{_EAGER}\"")
