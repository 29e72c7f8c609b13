"""Packed balanced-ternary LLM weights: codec, reference product, devices.

The names below are the stable interface; each is loaded when it is first used, so that importing a
part of the package loads that part only. The import also lets transformers load packed models, now
or as soon as transformers is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tritstream.registration import register

if TYPE_CHECKING:
    from tritstream.api import gemv, multiply, quantize, relative_error
    from tritstream.golden.activation import quantize_activation
    from tritstream.golden.matrix import TritMatrix, dequantize
    from tritstream.golden.packed.pack import pack_checkpoint
    from tritstream.golden.packed.reader import PackedCheckpoint
    from tritstream.golden.tiles import pack, unpack
    from tritstream.host.model.config import TritstreamConfig
    from tritstream.host.open_device import open_device
    from tritstream.host.sync_device import SyncDevice

__all__ = [
    "PackedCheckpoint", "SyncDevice", "TritMatrix", "TritstreamConfig", "dequantize", "gemv",
    "multiply", "open_device", "pack", "pack_checkpoint", "quantize", "quantize_activation",
    "relative_error", "unpack",
]

_MODULES = {
    "PackedCheckpoint": "golden.packed.reader", "SyncDevice": "host.sync_device",
    "TritMatrix": "golden.matrix", "TritstreamConfig": "host.model.config",
    "dequantize": "golden.matrix", "gemv": "api", "multiply": "api",
    "open_device": "host.open_device", "pack": "golden.tiles",
    "pack_checkpoint": "golden.packed.pack", "quantize": "api",
    "quantize_activation": "golden.activation", "relative_error": "api", "unpack": "golden.tiles",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register()
