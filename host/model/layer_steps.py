"""Work on a model layer by layer, in the steps of a job that resumes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tritstream.golden.layer_job import LayerJob
from tritstream.host.errors import HostError
from tritstream.host.model.layered import LayeredModel

__all__ = ["LayerSteps", "Step", "choose_device", "inputs_of"]


@dataclass(frozen=True)
class Step:
    """Step of a job.

    Members
    -------
    name : str
        Name of the step, and of the file of its vectors.
    label : str
        Description for the progress.
    vectors : callable
        Returns an iterator over the vectors of each window, (1, T, H).
    consumed : tuple
        Steps whose vectors no later step reads.
    """

    name:     str
    label:    str
    vectors:  Callable[[], Iterator[Tensor]]
    consumed: tuple[str, ...] = ()


class LayerSteps(ABC):
    """Work whose steps pass the vectors of all windows through a part of a model.

    Parameters
    ----------
    model : LayeredModel
    windows : sequence of Tensor
        Token ids (T,).
    job : LayerJob
        Job with an allocated output.

    Members
    -------
    total, done : int
        Number of windows of all steps, and of the steps that an earlier run has finished.
    """

    def __init__(self, model: LayeredModel, windows: Sequence[Tensor], job: LayerJob):
        self._model, self._windows, self._job = model, windows, job
        steps = list(self._steps())
        self._left = [step for step in steps if step.name not in job]
        self.total = len(steps) * len(windows)
        self.done = self.total - len(self._left) * len(windows)

    def run(self, advance: Callable[[int, str], None] | None = None) -> None:
        """Run the steps that are left, and finish the job.

        ``advance`` is called with 0 at the start of a step, with 1 after each of its windows, and
        with a description of the step.
        """
        shapes = [(len(window), self._model.width) for window in self._windows]
        self._advance = advance or _silent
        for step in self._left:
            self._job.run(step.name, self._counted(step), shapes, self._results)
            for name in step.consumed:
                self._job.remove(name)
        self._job.finish()

    @abstractmethod
    def _steps(self) -> Iterator[Step]:
        """Yield the steps in the order in which they must run."""

    @abstractmethod
    def _results(self) -> Mapping[str, np.ndarray]:
        """Return the arrays of the output that the last step made."""

    def _counted(self, step: Step) -> Iterator[np.ndarray]:
        """Yield the vectors of a step, float32 (T, H), and report each window once written."""
        self._advance(0, step.label)
        for values in step.vectors():
            yield values[0].numpy(force=True)
            self._advance(1, step.label)

    def _embed(self) -> Iterator[Tensor]:
        with self._model.embedding() as embed:
            yield from map(embed, self._windows)

    def _forward(self, index: int) -> Iterator[Tensor]:
        with self._model.layer(index) as layer, torch.no_grad():
            yield from map(layer, self._read(inputs_of(index)))

    def _read(self, step: str) -> Iterator[Tensor]:
        """Yield the vectors of a step, (1, T, H), on the device of the model."""
        for values in self._job.read(step):
            yield torch.from_numpy(values)[None].to(self._model.device)


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


def inputs_of(index: int) -> str:
    """Return the name of the step that computes the inputs of a layer, or of the head."""
    return f"inputs-{index:04}"


def _silent(windows: int, step: str) -> None:
    pass
