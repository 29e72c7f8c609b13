"""Calibration layer by layer: the statistics of the complete model, with one layer in memory.

The windows pass through the layers forward, one layer after the other, and the inputs of each layer
are kept on the disk. Then the derivatives pass backward: each layer is loaded and run once more on
its kept inputs, with the derivatives of its results from the layer behind it. The derivatives are
those of :func:`.collect_moments`, so the statistics differ from its statistics by rounding only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tritstream.golden.errors import CheckpointError
from tritstream.golden.layer_calibration_job import LayerCalibrationJob
from tritstream.golden.quantizers.moments import Moment
from tritstream.host.errors import HostError
from tritstream.host.model.calibration import Sums, drawn_derivatives, watched
from tritstream.host.model.layered import LayeredModel
from tritstream.host.model.skeleton import linear_layer

__all__ = ["LayerCalibration", "choose_device"]


def choose_device(name: str | None = None) -> torch.device:
    """Return a device of torch by its name, by default cuda, else mps, else cpu.

    Raises :class:`.HostError` if torch does not find the device.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(),
             "cpu": True}
    chosen = name or next(kind for kind, usable in found.items() if usable)
    if not found.get(chosen):
        raise HostError(f"torch finds no device {chosen!r}; it finds "
                        f"{', '.join(kind for kind, usable in found.items() if usable)}")
    return torch.device(chosen)


class LayerCalibration:
    """Calibration whose job resumes at a layer.

    Parameters
    ----------
    model : LayeredModel
    matrices : mapping
        Module of each linear layer, by the name for its statistics.
    windows : sequence of Tensor
        Token ids (T,).
    job : LayerCalibrationJob
        Job that writes the statistics.
    made_of : mapping
        Description of the calibration run, as JSON values.
    seed : int
        Random seed of the drawn tokens, as for :func:`.collect_moments`.

    Raises :class:`.CheckpointError` for a linear layer that is in no decoder layer and is not the
    head, and :class:`TypeError` for a module that is no linear layer.

    Members
    -------
    total, done : int
        Number of windows of all steps, and of the steps that an earlier run has finished.
    """

    def __init__(self, model: LayeredModel, matrices: Mapping[str, str],
                 windows: Sequence[Tensor], job: LayerCalibrationJob, made_of: Mapping, *,
                 seed: int = 0):
        self._model, self._windows, self._job, self._seed = model, windows, job, seed
        self._linear = _by_layer(model, matrices)
        self._sums: dict[str, Sums] = {}
        layers = {name: linear_layer(model.model, module) for name, module in matrices.items()}
        job.allocate({name: (layer.out_features, layer.in_features)
                      for name, layer in layers.items()}, made_of)
        steps = list(self._steps())
        self._left = [step for step in steps if step.name not in job]
        self.total = len(steps) * len(windows)
        self.done = self.total - len(self._left) * len(windows)

    def run(self, advance: Callable[[int, str], None] | None = None) -> None:
        """Run the steps that are left, and finish the job.

        ``advance`` is called after each window of a step with 1 and a description of the step.
        """
        shapes = [(len(window), self._model.width) for window in self._windows]
        for step in self._left:
            self._job.run(step.name, _counted(step, advance or _silent), shapes, self._moments)
            for name in step.consumed:
                self._job.remove(name)
        self._job.finish()

    def _steps(self) -> Iterator["_Step"]:
        """Yield the steps in the order in which they must run."""
        last = len(self._model)
        yield _Step(_inputs(0), "embedding", self._embed)
        for index in range(last):
            yield _Step(_inputs(index + 1), f"layer {index + 1} of {last}, forward",
                        partial(self._forward, index))
        yield _Step(_derivatives(last), "head", self._head, (_inputs(last),))
        for index in reversed(range(last)):
            yield _Step(_derivatives(index), f"layer {index + 1} of {last}, backward",
                        partial(self._backward, index),
                        (_inputs(index), _derivatives(index + 1)))

    def _moments(self) -> dict[str, Moment]:
        """Return the statistics of the finished step; they can be taken once."""
        sums, self._sums = self._sums, {}
        count = sum(map(len, self._windows))
        return {name: one.moment(count) for name, one in sums.items()}

    def _embed(self) -> Iterator[Tensor]:
        with self._model.embedding() as embed:
            yield from map(embed, self._windows)

    def _forward(self, index: int) -> Iterator[Tensor]:
        with self._model.layer(index) as layer, torch.no_grad():
            yield from map(layer, self._read(_inputs(index)))

    def _head(self) -> Iterator[Tensor]:
        with self._model.logits() as logits, self._watched(len(self._model)):
            for index, results in enumerate(self._read(_inputs(len(self._model)))):
                drawn = torch.Generator(results.device).manual_seed(self._seed + index)
                yield _pass_back(logits, results, partial(drawn_derivatives, drawn=drawn))

    def _backward(self, index: int) -> Iterator[Tensor]:
        behind = self._read(_derivatives(index + 1))
        with self._model.layer(index) as layer, self._watched(index):
            for inputs, derivatives in zip(self._read(_inputs(index)), behind, strict=True):
                yield _pass_back(layer, inputs, partial(_given, derivatives[0]))

    def _read(self, step: str) -> Iterator[Tensor]:
        """Yield the vectors of a step, (1, T, H), on the device of the model."""
        for values in self._job.read(step):
            yield torch.from_numpy(values)[None].to(self._model.device)

    @contextmanager
    def _watched(self, index: int) -> Iterator[None]:
        """Collect the sums of the linear layers of a part that is loaded."""
        linear = {name: linear_layer(self._model.model, module)
                  for name, module in self._linear[index].items()}
        self._sums = {name: Sums(layer) for name, layer in linear.items()}
        with watched(linear, self._sums):
            yield


@dataclass(frozen=True)
class _Step:
    """Step of a job: name, description, function that computes its vectors.

    ``consumed`` are the steps whose vectors no later step reads.
    """

    name:     str
    label:    str
    vectors:  Callable[[], Iterator[Tensor]]
    consumed: tuple[str, ...] = ()


def _counted(step: _Step, advance: Callable[[int, str], None]) -> Iterator[np.ndarray]:
    """Yield the vectors of a step, float32 (T, H), and report each window when it is written."""
    for values in step.vectors():
        yield values[0].numpy(force=True)
        advance(1, step.label)


def _pass_back(
    run: Callable[[Tensor], Tensor], inputs: Tensor, derivatives: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the derivatives by inputs (1, T, H) of a function.

    ``derivatives`` returns the derivatives by its results (T, R), given the results.
    """
    with torch.enable_grad():
        results = run(inputs.requires_grad_(True))
    found, = torch.autograd.grad(results, inputs, derivatives(results.detach()[0])[None])
    return found


def _given(derivatives: Tensor, _: Tensor) -> Tensor:
    return derivatives


def _by_layer(model: LayeredModel, matrices: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the modules of the matrices of each decoder layer, and of the head at the end."""
    found: list[dict[str, str]] = [{} for _ in range(len(model) + 1)]
    for name, module in matrices.items():
        index = model.index_of(module)
        if index is None:
            raise CheckpointError(f"{module} is in no decoder layer of {type(model.model).__name__}"
                                  "; calibrate the complete model")
        found[index][name] = module
    return found


def _inputs(index: int) -> str:
    """Return the name of the step that computes the inputs of a layer, or of the head."""
    return f"inputs-{index:04}"


def _derivatives(index: int) -> str:
    """Return the name of the step that computes the derivatives by these inputs."""
    return f"derivatives-{index:04}"


def _silent(windows: int, step: str) -> None:
    pass
