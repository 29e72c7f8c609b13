"""Calibration layer by layer: the statistics of the complete model, with one layer in memory.

The windows pass through the layers forward, one layer after the other, and the inputs of each layer
are kept on the disk. Then the derivatives pass backward: each layer is loaded and run once more on
its kept inputs, with the derivatives of its results from the layer behind it. The derivatives are
those of :func:`.collect_moments`, so the statistics differ from its statistics by rounding only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tritstream.golden.layer_job import LayerJob
from tritstream.golden.quantizers.moments import moment_arrays, moment_entries, moments_metadata
from tritstream.host.model.calibration import Sums, drawn_derivatives, watched
from tritstream.host.model.layer_steps import LayerSteps, Step, inputs_of
from tritstream.host.model.layered import LayeredModel
from tritstream.host.model.skeleton import linear_layer

__all__ = ["LayerCalibration"]


class LayerCalibration(LayerSteps):
    """Calibration whose job resumes at a layer.

    Parameters
    ----------
    model : LayeredModel
    matrices : mapping
        Module of each linear layer, by the name for its statistics.
    windows : sequence of Tensor
        Token ids (T,).
    job : LayerJob
        Job that writes the statistics.
    made_of : mapping
        Description of the calibration run, as JSON values.
    seed : int
        Random seed of the drawn tokens, as for :func:`.collect_moments`.

    Raises :class:`.CheckpointError` for a linear layer that is in no decoder layer and is not the
    head, and :class:`TypeError` for a module that is no linear layer.
    """

    def __init__(self, model: LayeredModel, matrices: Mapping[str, str],
                 windows: Sequence[Tensor], job: LayerJob, made_of: Mapping, *, seed: int = 0):
        self._linear, self._seed = model.by_layer(matrices), seed
        self._sums: dict[str, Sums] = {}
        job.allocate([entry for name, shape in model.shapes(matrices).items()
                      for entry in moment_entries(name, shape)], moments_metadata(made_of))
        super().__init__(model, windows, job)

    def _steps(self) -> Iterator[Step]:
        last = len(self._model)
        yield Step(inputs_of(0), "embedding", self._embed)
        for index in range(last):
            yield Step(inputs_of(index + 1), f"layer {index + 1} of {last}, forward",
                       partial(self._forward, index))
        yield Step(_derivatives(last), "head", self._head, (inputs_of(last),))
        for index in reversed(range(last)):
            yield Step(_derivatives(index), f"layer {index + 1} of {last}, backward",
                       partial(self._backward, index),
                       (inputs_of(index), _derivatives(index + 1)))

    def _results(self) -> dict[str, np.ndarray]:
        sums, self._sums = self._sums, {}
        count = sum(map(len, self._windows))
        return {part: values for name, one in sums.items() for part, values in moment_arrays(
            self._job.output, name, one.moment(count)).items()}

    def _head(self) -> Iterator[Tensor]:
        with self._model.logits() as logits, self._watched(len(self._model)):
            for index, results in enumerate(self._read(inputs_of(len(self._model)))):
                drawn = torch.Generator(results.device).manual_seed(self._seed + index)
                yield _pass_back(logits, results, partial(drawn_derivatives, drawn=drawn))

    def _backward(self, index: int) -> Iterator[Tensor]:
        behind = self._read(_derivatives(index + 1))
        with self._model.layer(index) as layer, self._watched(index):
            for inputs, derivatives in zip(self._read(inputs_of(index)), behind, strict=True):
                yield _pass_back(layer, inputs, partial(_given, derivatives[0]))

    @contextmanager
    def _watched(self, index: int) -> Iterator[None]:
        """Collect the sums of the linear layers of a part that is loaded."""
        linear = {name: linear_layer(self._model.model, module)
                  for name, module in self._linear[index].items()}
        self._sums = {name: Sums(layer) for name, layer in linear.items()}
        with watched(linear, self._sums):
            yield


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


def _derivatives(index: int) -> str:
    """Return the name of the step that computes the derivatives by the inputs of a layer."""
    return f"derivatives-{index:04}"

