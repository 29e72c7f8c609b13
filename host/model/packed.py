"""A packed model whose linear layers run on a device, in one call."""

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tritstream.host.loop_thread import LoopThread
from tritstream.host.model.backends import ActivationBits, DeviceBackend, MatrixDevice
from tritstream.host.model.load import load_model
from tritstream.host.open_device import open_device
from tritstream.hw.config import DeviceConfig

__all__ = ["device_backend", "load_packed"]


def load_packed(
    path: str | Path, device: str | MatrixDevice = "sim", *, activation_bits: ActivationBits = 8,
    dtype: torch.dtype = torch.float32, progress: Callable[[str], None] | None = None,
) -> PreTrainedModel:
    """Load a packed checkpoint as a stock model of transformers that multiplies on a device.

    Parameters
    ----------
    path : path
        Directory of a packed checkpoint.
    device : str or MatrixDevice
        What :func:`.open_device` opens, closed when the model is gone or the program
        ends; or an open device, which stays open.
    activation_bits, dtype, progress
        As of :func:`tritstream.host.model.load.load_model`.

    Raises what :func:`tritstream.host.model.load.load_model` and the device raise.
    """
    with ExitStack() as stack:
        backend = device_backend(stack, device, activation_bits)
        model = load_model(path, backend=backend, dtype=dtype, progress=progress)
        weakref.finalize(model, stack.pop_all().close)
    return model


def device_backend(
    stack: ExitStack, device: str | MatrixDevice, activation_bits: ActivationBits = 8,
    config: DeviceConfig | None = None,
) -> DeviceBackend:
    """A backend whose event loop, and device unless that is open already, end with ``stack``.

    ``config`` is of a simulated device where its name does not tell.
    """
    opened = open_device(device, config) if isinstance(device, str) else device
    loop = stack.enter_context(LoopThread())
    if opened is not device:
        stack.callback(loop.run, opened.close)
    return DeviceBackend(opened, loop.run, activation_bits)
