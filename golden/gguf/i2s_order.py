"""Orders of the weights in matrices of the type I2_S, which a file does not state.

bitnet.cpp writes blocks of 128 weights of the flattened matrix into 32 bytes. Built for ARM, its
own quantizer writes blocks of 64 into 16 bytes. Built without ``ACT_PARALLEL``, it writes the same
column of four rows into a byte. In each order, the first weights have the highest bits.
"""

from collections.abc import Mapping
from dataclasses import replace

from tritstream.golden.checkpoints.changed_source import ChangedSource
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError

__all__ = ["I2S_ORDER", "I2S_ORDERS", "check_i2s_order", "in_i2s_order"]

#: Weights per block, or four rows in a byte. The first is the default.
I2S_ORDERS = ("128", "64", "rows")
#: Name of the order among the settings of a source, and in a ``quantization_config``.
I2S_ORDER = "i2s_order"


def check_i2s_order(order: str) -> None:
    """Raise :class:`ValueError` for an unknown order."""
    if order not in I2S_ORDERS:
        raise ValueError(f"the order of I2_S must be one of {', '.join(I2S_ORDERS)}, not {order}")


def in_i2s_order(source: Source, order: str) -> Source:
    """Return the checkpoint of a GGUF file with its I2_S matrices read in another order.

    Raises :class:`.CheckpointError` if the file has no such matrix, or if its rows do not fit.
    """
    changed = ChangedSource(source, lambda tensors: _reordered(tensors, order))
    if all(changed.tensors[name] is tensor for name, tensor in source.tensors.items()):
        raise CheckpointError(f"{source.path}: has no matrix in I2_S, so it has no order of I2_S; "
                              "leave the option out")
    changed.settings = {**source.settings, I2S_ORDER: order}
    return changed


def _reordered(tensors: Mapping[str, SourceTensor], order: str) -> dict[str, SourceTensor]:
    return {name: _in_order(tensor, order) for name, tensor in tensors.items()}


def _in_order(tensor: SourceTensor, order: str) -> SourceTensor:
    # The package gguf is an extra.
    from tritstream.golden.gguf.tensors import GgufTensor

    if not isinstance(tensor, GgufTensor) or not tensor.raw.kind.single_scale:
        return tensor
    weights = 4 * tensor.shape[-1] if order == "rows" else int(order)
    kind = replace(tensor.raw.kind, weights=weights, size=weights // 4)
    if not kind.fits(tensor.shape):
        raise CheckpointError(f"{tensor.path}: {tensor.raw.name} of shape {tensor.shape} is no "
                              f"I2_S in the order {order}; use another order")
    return replace(tensor, raw=replace(tensor.raw, kind=kind))
