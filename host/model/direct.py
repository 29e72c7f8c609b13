"""Search for linear layers whose weights a model reads directly, so that they cannot be packed."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["directly_used"]

#: Operations on a weight that do not need its values.
_HARMLESS = (*(inspect.getattr_static(Tensor, name).__get__ for name in ("dtype", "device")),
             Tensor.is_floating_point)
#: ``self.NAME.weight``, but not its dtype or device.
_USE = re.compile(r"\bself\.(\w+)\.weight\b(?!\.(?:dtype|device))")
#: Methods that run never, or only on a GPU.
_NOT_RUN = ("_init_weights", "reset_parameters", "cuda_kernels_forward")
_TOKENS = 4


def directly_used(model: PreTrainedModel) -> set[nn.Module]:
    """Return the linear layers of a model on the meta device whose weights other code reads.

    The model is run without values. If that fails, because its control flow depends on values,
    the source code of its modules is searched as well. The model is unusable afterwards.
    """
    suspects = set(_by_source(model))
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    watched = {layer: _watch(layer) for layer in layers}
    try:
        _run(model)
    except Exception:
        # The code of the model may fail in any way, because its tensors have no values.
        return suspects | {layer for layer, weight in watched.items() if weight.used}
    return {layer for layer, weight in watched.items() if weight.used}


class _Watched(Tensor):
    """Weight on the meta device that records whether it is used."""

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
    weight = torch.empty_like(layer.weight, device="meta").detach().as_subclass(_Watched)
    del layer._parameters["weight"]
    layer.weight = weight
    # In place of the method, for this layer only.
    vars(layer)["forward"] = lambda x: x.new_empty(*x.shape[:-1], layer.out_features)
    weight.used = False
    return weight


@torch.inference_mode()
def _run(model: PreTrainedModel) -> None:
    """Run a pass over a few tokens, then a pass over one more token."""
    ids = torch.zeros(1, _TOKENS, dtype=torch.long, device="meta")
    first = model(input_ids=ids, use_cache=True)
    for name in ("past_key_values", "cache_params"):
        if getattr(first, name, None) is not None:
            model(input_ids=ids[:, :1], use_cache=True, **{name: first[name]})


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
