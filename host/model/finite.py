"""Checks that stop a pass with NaN or infinite values, which would yield arbitrary text."""

from collections.abc import Iterable
from functools import partial
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tritstream.golden.errors import CheckpointError
from tritstream.host.model.linear import TritLinear

__all__ = ["stop_at_non_finite"]


def stop_at_non_finite(model: PreTrainedModel) -> None:
    """Make each layer of a model check its inputs and results in every later pass.

    A pass with NaN or an infinity then raises :class:`.CheckpointError`. The message names the
    first layer where the value appears, and the tensor of this layer that holds the value, if any.
    """
    path = str(model.name_or_path)
    for name, module in model.named_modules():
        if isinstance(module, TritLinear):
            # Such inputs cannot be quantized, so the check of the results would come too late.
            module.register_forward_pre_hook(partial(_check_inputs, path, name))
        if next(module.children(), None) is None:
            module.register_forward_hook(partial(_check_results, path, name))
    model.register_forward_hook(partial(_check_logits, path))


def _check_inputs(path: str, name: str, _: nn.Module, inputs: tuple) -> None:
    if fault := _fault(inputs):
        raise CheckpointError(f"{path}: {name} gets {fault} from the layers before it, whose own "
                              "results are finite: their values overflow; check the weights of the "
                              "source")


def _check_results(path: str, name: str, module: nn.Module, inputs: tuple, results: Any) -> None:
    if not (fault := _fault(results if isinstance(results, tuple | list) else [results])):
        return
    _check_inputs(path, name, module, inputs)
    cause = _broken_tensor(name, module)
    advice = (f"since {cause}; repair it in the source and pack it again" if cause
              else "from finite inputs: its values overflow; check the weights of the source")
    raise CheckpointError(f"{path}: {name} gives {fault}, {advice}")


def _check_logits(path: str, _: nn.Module, __: tuple, results: Any) -> None:
    if fault := _fault([getattr(results, "logits", None)], least=True):
        raise CheckpointError(f"{path}: its logits hold {fault} although its layers are finite; "
                              "check its config.json")


def _broken_tensor(name: str, module: nn.Module) -> str | None:
    """Return the parameter or buffer of a module that is not finite, with its value."""
    for part, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if fault := _fault([tensor]):
            return f"{name}.{part} holds {fault}"
    return None


def _fault(values: Iterable[Any], least: bool = False) -> str | None:
    """Return the first non-finite value with its index; ``least`` allows minus infinity."""
    for value in values:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        value = value.detach()
        # Fast path without memory: a sum is finite only if all its terms are.
        if isfinite(value.sum(dtype=torch.float32)):
            continue
        wrong = ~torch.isfinite(value) & ~(torch.isneginf(value) & least)
        if wrong.any():
            place = wrong.nonzero()[0].tolist()
            return f"{value[tuple(place)].item()} at {place}"
    return None
