"""Watching of parameters of experts: how the code of a model multiplies by them."""

import inspect
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from transformers import PreTrainedModel

from tritstream.golden.checkpoints.slices import INPUTS_FIRST
from tritstream.host.model.experts import BATCHED, PRODUCTS

__all__ = ["WatchedExperts", "expert_parameters"]

#: Attributes and operations that :class:`.Stack` has, too.
_HARMLESS = tuple(inspect.getattr_static(Tensor, name).__get__ for name in ("dtype", "shape"))


def expert_parameters(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield parameters with three dimensions: name in the model, module, and name in the module."""
    for place, module in model.named_modules():
        if not isinstance(module, _ConvNd):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim == 3:
                    yield f"{place}.{name}", module, name


class WatchedExperts(Tensor):
    """Parameter (E, N, K) or (E, K, N) of zeros that records how it is used.

    Members
    -------
    axes : set of str
        Axes of the slices, :data:`.AXES`, that products with them imply.
    fault : str or None
        Name of an operation other than a product with one expert or with all.
    """

    axes:  set[str]
    fault: str | None

    @classmethod
    def of(cls, zeros: Tensor) -> "WatchedExperts":
        """Return a parameter with these values, to be watched."""
        watched = zeros.as_subclass(cls)
        watched.axes, watched.fault = set(), None
        return watched

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Iterable[type], arguments: tuple = (),
        options: dict | None = None,
    ) -> object:
        with torch._C.DisableTorchFunctionSubclass():
            first, second = (*arguments, None, None)[:2]
            if function in BATCHED and isinstance(second, cls) and not isinstance(first, cls):
                second.axes.add(INPUTS_FIRST)
                return first.new_zeros(*first.shape[:2], second.shape[2])
            if function is Tensor.__getitem__ and isinstance(first, cls) and _is_number(second):
                return _Slice.of(first, int(second))
            for one in arguments:
                if isinstance(one, cls) and function not in _HARMLESS:
                    one.fault = one.fault or function.__name__
            return function(*arguments, **(options or {}))


class _Slice(Tensor):
    """Matrix of one expert of zeros, which records products."""

    whole: WatchedExperts

    @classmethod
    def of(cls, whole: WatchedExperts, index: int) -> "_Slice":
        part = whole.as_subclass(Tensor)[index].as_subclass(cls)
        part.whole = whole
        return part

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Iterable[type], arguments: tuple = (),
        options: dict | None = None,
    ) -> object:
        with torch._C.DisableTorchFunctionSubclass():
            first, second = (*arguments, None, None)[:2]
            axes = PRODUCTS.get(function)
            if axes and isinstance(second, cls) and not isinstance(first, cls):
                second.whole.axes.add(axes)
                return first.new_zeros(*first.shape[:-1], second.shape[axes.index("N")])
            if function is Tensor.float and isinstance(first, cls):
                return first
            for one in arguments:
                if isinstance(one, cls):
                    one.whole.fault = one.whole.fault or function.__name__
            return function(*arguments, **(options or {}))


def _is_number(index: object) -> bool:
    return isinstance(index, int) or (isinstance(index, Tensor) and index.numel() == 1
                                      and not index.is_floating_point()
                                      and index.dtype != torch.bool)
