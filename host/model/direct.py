"""Linear layers whose weights a model uses itself, so that nothing can stand in for them."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["directly_used"]

#: What may be asked of a weight that is not there; all else needs its values.
_HARMLESS = (Tensor.dtype.__get__, Tensor.device.__get__, Tensor.is_floating_point)
#: ``self.NAME.weight``, but for its dtype and device.
_USE = re.compile(r"\bself\.(\w+)\.weight\b(?!\.(?:dtype|device))")
#: Methods that run never, or on a GPU only.
_NOT_RUN = ("_init_weights", "reset_parameters", "cuda_kernels_forward")
_TOKENS = 4


def directly_used(model: PreTrainedModel) -> set[nn.Module]:
    """Linear layers and embeddings of a model on the meta device whose weights are read elsewhere.

    Found by running it. Where that fails, since its way depends on values, the source of its
    modules tells. The model cannot be used afterwards.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Embedding)]
    kinds = {layer: type(layer) for layer in layers}
    suspects = set(_by_source(model))
    watched = {layer: _watch(layer) for layer in layers if kinds[layer] is nn.Linear}
    try:
        _run(model)
    except Exception:
        # The model's own code: it may fail in any way on values that are not there.
        return suspects | {layer for layer, weight in watched.items() if weight.used}
    return {layer for layer, weight in watched.items() if weight.used}


class _Watched(Tensor):
    """A weight on the meta device that notes whether it is used."""

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
    """Put a watched weight into a layer, whose own product does not count."""
    weight = torch.empty_like(layer.weight, device="meta").detach().as_subclass(_Watched)
    del layer._parameters["weight"]
    layer.weight = weight
    layer.forward = lambda x: x.new_empty(*x.shape[:-1], layer.out_features)
    weight.used = False
    return weight


@torch.inference_mode()
def _run(model: PreTrainedModel) -> None:
    """A pass over a few tokens, and one more token after them."""
    ids = torch.zeros(1, _TOKENS, dtype=torch.long, device="meta")
    first = model(input_ids=ids, use_cache=True)
    for name in ("past_key_values", "cache_params"):
        if getattr(first, name, None) is not None:
            model(input_ids=ids[:, :1], use_cache=True, **{name: first[name]})


def _by_source(model: PreTrainedModel) -> Iterator[nn.Module]:
    """Linear layers whose weight a method of their parent names."""
    names = {kind: set(_USE.findall(_source(kind))) for kind in {type(m) for m in model.modules()}}
    for module in model.modules():
        for name in names[type(module)]:
            layer = getattr(module, name, None)
            if isinstance(layer, nn.Linear):
                yield layer


def _source(kind: type) -> str:
    """Source of the methods of a class that may run on a CPU."""
    methods = [method for name, method in inspect.getmembers(kind, inspect.isfunction)
               if name not in _NOT_RUN and method.__module__.startswith("transformers.models.")]
    return "\n".join(inspect.getsource(method) for method in methods)
