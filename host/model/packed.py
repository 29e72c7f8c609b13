"""Loading of a packed model whose linear layers run on a device, in one call."""

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tritstream.host.model.backends import ActivationBits, DeviceBackend, MatrixDevice
from tritstream.host.model.config import TritstreamConfig
from tritstream.host.model.held import set_backend
from tritstream.host.model.load import load_model, make_backend
from tritstream.host.open_device import open_device
from tritstream.host.own_loop import OwnLoop
from tritstream.hw.config import DeviceConfig

__all__ = ["device_backend", "load_packed", "start_backend"]


def load_packed(
    path: str | Path, device: str | MatrixDevice = "sim", *, activation_bits: ActivationBits = 8,
    dtype: torch.dtype = torch.float32, progress: Callable[[str], None] | None = None,
) -> PreTrainedModel:
    """Load a packed checkpoint as a standard model of transformers that multiplies on a device.

    Parameters
    ----------
    path : path
        Directory of a packed checkpoint.
    device : str or MatrixDevice
        Description for :func:`.open_device`; this device is closed when the model is deleted or
        the program ends. Or an open device, which stays open.
    activation_bits, dtype, progress
        As for :func:`.load_model`.

    Raises the errors of :func:`.load_model` and of the device.
    """
    with ExitStack() as stack:
        backend = device_backend(stack, device, activation_bits)
        model = load_model(path, backend=backend, dtype=dtype, progress=progress)
        weakref.finalize(model, stack.pop_all().close)
    return model


def start_backend(model: PreTrainedModel, config: TritstreamConfig) -> None:
    """Set the backend of a loaded model, :func:`.set_backend`, by its configuration.

    A device that is opened here is closed when the model is deleted or the program ends.
    """
    if config.backend is None:
        return
    if config.backend != "device":
        set_backend(model, config.backend if not isinstance(config.backend, str) else
                    make_backend(config.backend, config.activation_bits, model.dtype))
        return
    with ExitStack() as stack:
        set_backend(model, device_backend(stack, config.device, config.activation_bits))
        weakref.finalize(model, stack.pop_all().close)


def device_backend(
    stack: ExitStack, device: str | MatrixDevice, activation_bits: ActivationBits = 8,
    config: DeviceConfig | None = None,
) -> DeviceBackend:
    """Return a backend whose event loop ends with ``stack``, and its device too if opened here.

    ``config`` applies to a simulated device whose description does not configure it.
    """
    if not isinstance(device, str):
        return DeviceBackend(device, stack.enter_context(OwnLoop()).run, activation_bits)
    opened = open_device(device, config)
    loop = stack.enter_context(OwnLoop())
    stack.callback(loop.run, opened.close)
    return DeviceBackend(opened, loop.run, activation_bits)
