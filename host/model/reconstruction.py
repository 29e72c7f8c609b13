"""Reconstruction layer by layer: digits and tables tuned such that each layer's results are kept.

A decoder layer is quantized with the calibration statistics first. Then the integers and tables of
all its matrices are tuned together by gradient (as in BRECQ, Li et al., 2021): the loss is the
squared error of the layer's results. The inputs are those that the quantized layers before it give,
and the results to reach are those of the unquantized model. One layer is in memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tritstream.golden.layer_job import LayerJob
from tritstream.golden.matrix import TritMatrix, dequantize
from tritstream.golden.quantizers.error_feedback import feed_back
from tritstream.golden.quantizers.moments import Moments
from tritstream.golden.quantizers.reconstruction import (
    matrix_arrays,
    matrix_entries,
    reconstruction_metadata,
)
from tritstream.host.model.layer_steps import LayerSteps, Step, inputs_of
from tritstream.host.model.layered import LayeredModel
from tritstream.host.model.skeleton import linear_layer
from tritstream.host.model.tuned_linear import TunedLinear

__all__ = ["LayerReconstruction", "Tuning"]


@dataclass(frozen=True)
class Tuning:
    """Settings of the gradient descent (Adam, whose rates fall linearly to zero).

    Members
    -------
    epochs : int
        Passes over the windows per layer.
    level_rate, table_rate : float
        Initial rates of levels, in integers, and of the logarithms of the tables' entries.
    """

    epochs:     int = 8
    level_rate: float = 3e-3
    table_rate: float = 2e-3


class LayerReconstruction(LayerSteps):
    """Reconstruction whose job resumes at a layer.

    Parameters
    ----------
    model : LayeredModel
    matrices : mapping
        Module of each matrix, by its name in the checkpoint.
    depths : mapping
        Trits per weight, by name of the matrix.
    moments : Moments
        Calibration file.
    windows : sequence of Tensor
        Token ids (T,).
    job : LayerJob
        Job that writes the quantized matrices.
    made_of : mapping
        Description of the reconstruction, as JSON values.
    tuning : Tuning
    engine : str, optional
        Engine of the quantizer; it changes no byte.

    Raises :class:`.CheckpointError` for a matrix of no decoder layer.
    """

    def __init__(self, model: LayeredModel, matrices: Mapping[str, str],
                 depths: Mapping[str, int], moments: Moments, windows: Sequence[Tensor],
                 job: LayerJob, made_of: Mapping, *, tuning: Tuning | None = None,
                 engine: str | None = None):
        self._linear, self._depths, self._moments = model.by_layer(matrices), depths, moments
        self._tuning, self._engine = tuning or Tuning(), engine
        self._matrices: dict[str, TritMatrix] = {}
        job.allocate([entry for name, shape in model.shapes(matrices).items()
                      for entry in matrix_entries(name, shape)],
                     reconstruction_metadata(made_of, depths))
        super().__init__(model, windows, job)

    def _steps(self) -> Iterator[Step]:
        last = len(self._model)
        yield Step(inputs_of(0), "embedding", self._embed)
        for index in range(last):
            label = f"layer {index + 1} of {last}"
            yield Step(inputs_of(index + 1), f"{label}, unquantized", partial(self._forward, index))
            yield Step(_inputs_from_quantized(index + 1), f"{label}, quantized",
                       partial(self._reconstruct, index),
                       (inputs_of(index), _inputs_from_quantized(index)))

    def _results(self) -> dict[str, np.ndarray]:
        matrices, self._matrices = self._matrices, {}
        return {part: values for name, matrix in matrices.items()
                for part, values in matrix_arrays(name, matrix).items()}

    def _reconstruct(self, index: int) -> Iterator[Tensor]:
        modules = self._linear[index]
        with self._model.layer(index) as layer:
            linear = {name: linear_layer(self._model.model, module)
                      for name, module in modules.items()}
            tuned = {name: TunedLinear(one, self._quantize(name, one))
                     for name, one in linear.items()}
            if tuned:
                with self._in_place(modules, tuned):
                    self._tune(layer, list(tuned.values()), index)
            self._matrices = {name: one.matrix() for name, one in tuned.items()}
            del tuned
            for name, one in linear.items():
                one.weight.copy_(torch.from_numpy(dequantize(self._matrices[name])))
            with torch.no_grad():
                yield from map(layer, self._read(_inputs_from_quantized(index)))

    def _quantize(self, name: str, layer: nn.Linear) -> TritMatrix:
        moment = self._moments.of(name, (layer.out_features, layer.in_features))
        return feed_back(layer.weight.numpy(force=True), self._depths[name], moment, name,
                         engine=self._engine)

    def _tune(self, layer: Callable[[Tensor], Tensor], tuned: Sequence[TunedLinear],
              index: int) -> None:
        """Minimize the squared error of the layer's results over the windows."""
        settings, before = self._tuning, _inputs_from_quantized(index)
        optimizer = torch.optim.Adam([
            {"params": [one.levels for one in tuned], "lr": settings.level_rate},
            {"params": [one.factors for one in tuned], "lr": settings.table_rate},
        ], betas=(0.9, 0.95))
        steps = settings.epochs * len(self._windows)
        fall = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps)
        for epoch in range(settings.epochs):
            self._advance(0, f"layer {index + 1} of {len(self._model)}, pass {epoch + 1} of "
                             f"{settings.epochs}")
            for inputs, results in zip(
                    self._read(before), self._read(inputs_of(index + 1)), strict=True):
                with torch.enable_grad():
                    loss = (layer(inputs) - results).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                fall.step()

    @contextmanager
    def _in_place(
        self, modules: Mapping[str, str], tuned: Mapping[str, TunedLinear],
    ) -> Iterator[None]:
        """Let the tuned layers take the places of the linear layers until the context ends."""
        before = {name: self._model.model.get_submodule(place) for name, place in modules.items()}
        try:
            for name, place in modules.items():
                self._model.model.set_submodule(place, tuned[name])
            yield
        finally:
            for name, place in modules.items():
                self._model.model.set_submodule(place, before[name])


def _inputs_from_quantized(index: int) -> str:
    """Return the name of the step that computes a layer's inputs from quantized layers."""
    return f"quantized-{index:04}" if index else inputs_of(0)
