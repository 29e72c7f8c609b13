"""Calibration layer by layer, for models that do not fit the memory."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tritstream.golden.checkpoints.source import Source
from tritstream.golden.layer_job import LayerJob
from tritstream.golden.quantizers.moments import BLOCK
from tritstream.scripts.console import console, progress
from tritstream.scripts.weights.calibration_texts import warn_of_few
from tritstream.scripts.weights.linear_layers import linear_layers
from tritstream.scripts.weights.token_windows import WINDOW

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from torch import Tensor

__all__ = ["layer_by_layer", "whole_model_bytes", "write_layer_by_layer"]

#: Limit of the memory of a container, in bytes, or "max".
_CONTAINER = Path("/sys/fs/cgroup/memory.max")


def layer_by_layer(source: Source, asked: bool | None, torch_device: str | None) -> bool:
    """Return whether to calibrate layer by layer: as asked, else if the model needs more memory.

    Raises :class:`ValueError` for a device of torch if the complete model is asked for.
    """
    chosen = whole_model_bytes(source) > _memory() if asked is None else asked
    if torch_device is not None and not chosen:
        raise ValueError("the complete model is calibrated on the CPU; give --by-layer for "
                         "another --torch-device")
    return chosen


def whole_model_bytes(source: Source) -> int:
    """Return the memory that a calibration of the complete model needs, without activations."""
    shapes = [tensor.shape for tensor in source.tensors.values()]
    weights = sum(map(math.prod, shapes))
    moments = sum(shape[1] * min(shape[1], BLOCK) for shape in shapes if len(shape) == 2)
    return 4 * (weights + moments + 2 * WINDOW * source.config.get("vocab_size", 0))


def write_layer_by_layer(
    source: Source, output: Path, windows: "Sequence[Tensor]", made_of: Mapping,
    parameters: Mapping[str, str], torch_device: str | None, force: bool,
) -> None:
    """Calibrate layer by layer, and write the calibration file."""
    from tritstream.host.model.layer_steps import choose_device

    device = choose_device(torch_device)
    parameters = {**parameters, "loading": f"layer by layer, on {device.type}"}
    with LayerJob(output, parameters, force=force) as job:
        if not job.finished:
            _collect(job, source, windows, made_of, device.type)


def _collect(
    job: LayerJob, source: Source, windows: "Sequence[Tensor]", made_of: Mapping,
    device: str,
) -> None:
    from tritstream.host.model.layer_calibration import LayerCalibration
    from tritstream.host.model.layer_steps import choose_device
    from tritstream.host.model.layered import LayeredModel

    model = LayeredModel(source, choose_device(device))
    matrices = linear_layers(source, model.model)
    count = sum(map(len, windows))
    warn_of_few(count, {name: shape[1] for name, shape in model.shapes(matrices).items()})
    run = LayerCalibration(model, matrices, windows, job,
                           {**made_of, "tokens": count, "layers": len(matrices)})
    console.print(f"calibrating layer by layer: {run.done} of {run.total} windows of all steps are "
                  f"finished; {job.partial} is kept for a restart", markup=False, soft_wrap=True)
    with progress("calibrating", run.total, start=run.done) as advance:
        run.run(advance)


def _memory() -> int:
    """Return the memory of this machine, or of its container, in bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CONTAINER.read_text().strip() if _CONTAINER.is_file() else ""
    return min(memory, int(limit)) if limit.isdigit() else memory
