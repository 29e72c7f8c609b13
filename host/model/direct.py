"""Trial run of a model, to find out how it uses weights: by products, or in its own way."""

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tritstream.golden.checkpoints.slices import AXES
from tritstream.host.model.expert_uses import WatchedExperts, expert_parameters
from tritstream.host.model.experts import set_eager

__all__ = ["Uses", "find_uses"]

#: Operations on a weight that do not need its values.
_HARMLESS = (*(inspect.getattr_static(Tensor, name).__get__ for name in ("dtype", "device")),
             Tensor.is_floating_point)
#: ``self.NAME.weight``, but not its dtype or device.
_USE = re.compile(r"\bself\.(\w+)\.weight\b(?!\.(?:dtype|device))")
#: Methods that run never, or only on a GPU.
_NOT_RUN = ("_init_weights", "reset_parameters", "cuda_kernels_forward")
_TOKENS = 4


@dataclass(frozen=True)
class Uses:
    """How a model uses its weights.

    Members
    -------
    direct : set of Module
        Linear layers whose weights other code reads.
    experts : dict
        Axes of the slices, one of :data:`.AXES`, of each parameter with three dimensions that is
        used by products only, by its name in the model.
    fault : str or None
        Error that ended the trial run.
    """

    direct:  set[nn.Module]
    experts: dict[str, str]
    fault:   str | None = None


def find_uses(model: PreTrainedModel) -> Uses:
    """Find out how a model on the meta device uses its weights. It is unusable afterwards.

    The model is run with weights of zeros, which take no memory. If that fails, the source code of
    its modules is searched for linear layers as well.
    """
    # While transformers loads a model, the default is the meta device.
    with torch.device("cpu"):
        return _find_uses(model)


def _find_uses(model: PreTrainedModel) -> Uses:
    suspects = set(_by_source(model))
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    watched = {layer: _watch(layer) for layer in layers}
    experts = list(expert_parameters(model))
    for _, module, name in experts:
        _put(module, name, WatchedExperts.of(_zeros(module.get_parameter(name))))
    _fill(model)
    set_eager(model)
    fault = None
    try:
        _run(model)
    except Exception as error:
        # The code of the model may fail in any way, because of the zeros.
        fault = type(error).__name__
        with suppress(Exception):
            _pass(model, use_cache=False)
    used: set[nn.Module] = {layer for layer, weight in watched.items() if weight.used}
    return Uses(used | suspects if fault else used, _expert_axes(experts), fault)


def _expert_axes(experts: Iterable[tuple[str, nn.Module, str]]) -> dict[str, str]:
    """Return the axes of parameters that are used by products only, equally by all of a kind."""
    axes: defaultdict[tuple[type, str], set[str]] = defaultdict(set)
    for _, module, name in experts:
        weights = getattr(module, name)
        axes[type(module), name] |= weights.axes | ({weights.fault} if weights.fault else set())
    return {place: next(iter(axes[type(module), name])) for place, module, name in experts
            if len(axes[type(module), name]) == 1 and axes[type(module), name] <= {*AXES}}


def _fill(model: PreTrainedModel) -> None:
    """Replace all tensors on the meta device by zeros."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                module._parameters[name] = nn.Parameter(_zeros(parameter), requires_grad=False)
        for held in (module._buffers, vars(module)):
            for name, value in held.items():
                if type(value) is Tensor and value.is_meta:
                    held[name] = torch.zeros(value.shape, dtype=value.dtype)


def _zeros(like: Tensor) -> Tensor:
    """Return zeros of a shape and a dtype that take no memory."""
    return torch.zeros((), dtype=like.dtype).expand(like.shape)


def _put(module: nn.Module, name: str, weight: Tensor) -> None:
    """Put a tensor in the place of a parameter."""
    del module._parameters[name]
    setattr(module, name, weight)


class _Watched(Tensor):
    """Weight that records whether it is used."""

    used = False

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Iterable[type], arguments: tuple = (),
        options: dict | None = None,
    ) -> object:
        if function not in _HARMLESS:
            for one in _tensors(arguments):
                one.used = True
        with torch._C.DisableTorchFunctionSubclass():
            return function(*arguments, **(options or {}))


def _tensors(value: object) -> Iterator[_Watched]:
    if isinstance(value, _Watched):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def _watch(layer: nn.Linear) -> _Watched:
    """Put a watched weight into a layer, whose own product is not recorded."""
    weight = _zeros(layer.weight).as_subclass(_Watched)
    _put(layer, "weight", weight)
    # In place of the method, for this layer only.
    vars(layer)["forward"] = lambda x: x.new_zeros(*x.shape[:-1], layer.out_features)
    weight.used = False
    return weight


def _run(model: PreTrainedModel) -> None:
    """Run a pass over a few tokens, then a pass over one more token."""
    first = _pass(model, use_cache=True)
    for name in ("past_key_values", "cache_params"):
        if getattr(first, name, None) is not None:
            _pass(model, 1, use_cache=True, **{name: first[name]})


@torch.inference_mode()
def _pass(model: PreTrainedModel, tokens: int = _TOKENS, **options: Any) -> Any:
    return model(input_ids=torch.zeros(1, tokens, dtype=torch.long), **options)


def _by_source(model: PreTrainedModel) -> Iterator[nn.Module]:
    """Yield the linear layers whose weight is named in a method of their parent."""
    names = {kind: set(_USE.findall(_source(kind))) for kind in {type(m) for m in model.modules()}}
    for module in model.modules():
        for name in names[type(module)]:
            layer = getattr(module, name, None)
            if isinstance(layer, nn.Linear):
                yield layer


def _source(kind: type) -> str:
    """Return the source code of the methods of a class that may run on a CPU."""
    methods = [method for name, method in inspect.getmembers(kind, inspect.isfunction)
               if name not in _NOT_RUN and method.__module__.startswith("transformers.models.")]
    return "\n".join(inspect.getsource(method) for method in methods)
