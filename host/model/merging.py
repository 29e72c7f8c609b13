"""Analysis of the converters by which transformers merges matrices into tensors of experts.

A module of experts has parameters with three dimensions, (E, N, K) or (E, K, N). A checkpoint may
hold a matrix per expert, or several that are concatenated (gate and up), or one tensor with three
dimensions. The converters are run here on tensors of row numbers in place of weights, which shows
from which rows each expert's matrix is made, for every order of operations of transformers.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter, WeightTransform, dot_natural_key

from tritstream.golden.checkpoints.slices import AXES, INPUTS_FIRST, OUTPUTS_FIRST, slice_module
from tritstream.golden.packed.layout import CODES_SUFFIX, SCALES_SUFFIX, TRITS_SUFFIX
from tritstream.host.model.skeleton import TensorNames

__all__ = ["Merge", "find_merges", "pass_over_packed"]

#: Size of the axis that a trace leaves out: columns in a trace of rows, and the reverse.
_SHORT = 2


@dataclass(frozen=True)
class Merge:
    """Parameter of experts, made of matrices of a checkpoint.

    Members
    -------
    place : str
        Name of the parameter in the model.
    shape : tuple
        Shape of the parameter.
    axes : str
        Axes of an expert's slice of the parameter, one of :data:`.AXES`.
    experts : tuple of tuple of str
        Matrices whose rows, one matrix after the other, are the rows of each expert: modules of
        the checkpoint.
    rows : mapping
        Number of rows of each matrix.
    stacked : mapping
        Axes of the tensors with three dimensions whose slices are among the matrices, by tensor.
    """

    place:   str
    shape:   tuple[int, ...]
    axes:    str
    experts: tuple[tuple[str, ...], ...]
    rows:    Mapping[str, int]
    stacked: Mapping[str, str]

    @property
    def matrices(self) -> tuple[str, ...]:
        """Matrices of all experts."""
        return tuple(name for expert in self.experts for name in expert)


def find_merges(
    model: PreTrainedModel, names: TensorNames, shapes: Mapping[str, tuple[int, ...]],
    stacked: Mapping[str, str] | None = None,
) -> list[Merge]:
    """Return how parameters with three dimensions are made of matrices.

    A parameter whose converters do not keep the rows of matrices together is left out. If both
    axes of a stored tensor can be the inputs, both possibilities are returned.

    Parameters
    ----------
    model : PreTrainedModel
        Model on the meta device.
    names : TensorNames
        Names in the model.
    shapes : mapping
        Shape of each tensor of the checkpoint, by its name.
    stacked : mapping, optional
        Axes of tensors with three dimensions, by name, if they are known.
    """
    sources: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(shapes, key=dot_natural_key):
        place = names.find(name)[0]
        if place in names and len(names.shape(place)) == 3:
            sources[place].append(name)
    # Models are loaded with the meta device as default.
    with torch.device("cpu"):
        return [merge for place, tensors in sources.items()
                for merge in _possible(model, names, place, {one: shapes[one] for one in tensors},
                                       stacked)]


def _possible(
    model: PreTrainedModel, names: TensorNames, place: str,
    sources: Mapping[str, tuple[int, ...]], stacked: Mapping[str, str] | None,
) -> Iterator[Merge]:
    """Yield the merges into one parameter that are possible."""
    deep = [name for name, shape in sources.items() if len(shape) == 3]
    if not all(len(shape) == 3 or (len(shape) == 2 and name.endswith(".weight"))
               for name, shape in sources.items()):
        return
    for axes in AXES if deep else (OUTPUTS_FIRST,):
        if stacked is not None and any(stacked.get(name) != axes for name in deep):
            continue
        trace = _Trace(model, names, place, sources, axes)
        if (found := trace.result()) is not None:
            yield Merge(place, names.shape(place), *found, trace.rows, dict.fromkeys(deep, axes))


def pass_over_packed(conversions: Iterable[WeightTransform]) -> None:
    """Change converters so that they do not match the tensors of packed matrices."""
    suffixes = "|".join(map(re.escape, (TRITS_SUFFIX, SCALES_SUFFIX, CODES_SUFFIX)))
    for one in conversions:
        if isinstance(one, WeightConverter):
            one.compiled_sources = re.compile(
                rf"(?!.*(?:{suffixes})$)(?:{one.compiled_sources.pattern})")


class _Trace:
    """Run of a parameter's converter on numbers of rows, then on numbers of columns.

    ``rows`` is the number of rows of each matrix, by name.
    """

    def __init__(self, model: PreTrainedModel, names: TensorNames, place: str,
                 sources: Mapping[str, tuple[int, ...]], axes: str):
        self._model, self._names, self._place = model, names, place
        self._sources, self._axes = sources, axes
        sizes = {name: _matrix_shape(shape, axes) for name, shape in sources.items()}
        self._columns = {columns for _, columns in sizes.values()}
        self.rows = {module: rows for name, (rows, _) in sizes.items()
                     for module in self._modules(name)}

    def result(self) -> tuple[str, tuple[tuple[str, ...], ...]] | None:
        """Return axes and experts of a :class:`Merge`; None if the parameter is no such merge."""
        if len(self._columns) != 1:
            return None
        columns, = self._columns
        starts = torch.tensor([0, *self.rows.values()]).cumsum(0)
        by_rows = self._run(_SHORT, None)
        by_columns = self._run(columns, _SHORT)
        for axes in AXES:
            rows, plain = (_numbers(one, width, axes) for one, width in
                           ((by_rows, _SHORT), (by_columns, columns)))
            due = _sorted(self._names.shape(self._place), axes)
            if rows is None or plain is None or (*rows.shape, columns) != due:
                continue
            experts = [self._expert(numbers, starts) for numbers in rows]
            complete = tuple(expert for expert in experts if expert)
            if len(complete) == len(experts):
                return axes, complete
        return None

    def _modules(self, name: str) -> list[str]:
        shape = self._sources[name]
        return ([slice_module(name, index) for index in range(shape[0])] if len(shape) == 3
                else [name.removesuffix(".weight")])

    def _run(self, columns: int, rows: int | None) -> Tensor | None:
        """Convert tensors with this number of columns, and of rows unless None, that count up."""
        tensors, start = {}, 0
        for name, shape in self._sources.items():
            outputs = _matrix_shape(shape, self._axes)[0] if rows is None else rows
            size = (*shape[:-2], outputs, columns)
            tensor = torch.arange(start, start + prod(size)).view(size)
            start += prod(size)
            deep = len(shape) == 3 and self._axes == INPUTS_FIRST
            tensors[name] = tensor.transpose(-1, -2) if deep else tensor
        return self._convert(tensors)

    def _convert(self, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """Return the parameter that transformers makes of tensors; None if it makes none."""
        first, *others = tensors
        converter = self._names.converter(first)
        if converter is None:
            return tensors[first] if not others else None
        converter = deepcopy(converter)
        for name, tensor in tensors.items():
            pattern = self._names.pattern(name)
            if pattern not in converter.source_patterns:
                return None
            loaded: Future[Tensor] = Future()
            loaded.set_result(tensor)
            converter.add_tensor(self._place, name, pattern, loaded)
        try:
            found = converter.convert(self._place, model=self._stand_in(first, tensors[first]),
                                      config=self._model.config)
        except Exception:
            # An operation that needs weights, or other shapes, may fail in any way.
            return None
        return found.get(self._place)

    def _stand_in(self, name: str, tensor: Tensor) -> SimpleNamespace:
        """Return a model for operations that compare the shapes of a tensor and a parameter."""
        same = self._sources[name] == self._names.shape(self._place)
        parameter = tensor if same else torch.empty(0)
        return SimpleNamespace(get_parameter=lambda _: parameter)

    def _expert(self, numbers: Tensor, starts: Tensor) -> tuple[str, ...] | None:
        """Return the matrices whose rows have these numbers; None if they are not complete."""
        matrices: list[str] = []
        first, names = 0, list(self.rows)
        while first < len(numbers):
            index = int(torch.searchsorted(starts, numbers[first], right=True)) - 1
            start, end = starts[index:index + 2].tolist()
            if not torch.equal(numbers[first:first + end - start], torch.arange(start, end)):
                return None
            matrices.append(names[index])
            first += end - start
        return tuple(matrices)


def _matrix_shape(shape: tuple[int, ...], axes: str) -> tuple[int, int]:
    """Return the shape (N, K) of a matrix, or of a slice of a tensor with these axes."""
    rows, columns = shape[-2:]
    return (columns, rows) if len(shape) == 3 and axes == INPUTS_FIRST else (rows, columns)


def _sorted(shape: Sequence[int], axes: str) -> tuple[int, ...]:
    """Return a shape (E, N, K)."""
    return tuple(shape) if axes == OUTPUTS_FIRST else (shape[0], shape[2], shape[1])


def _numbers(tensor: Tensor | None, width: int, axes: str) -> Tensor | None:
    """Return the numbers (E, N) of complete rows of a width; None if the rows are not complete."""
    if tensor is None or tensor.ndim != 3:
        return None
    rows = tensor if axes == OUTPUTS_FIRST else tensor.transpose(1, 2)
    numbers = rows[..., :1]
    if rows.shape[-1] != width or (numbers % width).any():
        return None
    return (numbers // width)[..., 0] if torch.equal(rows, numbers + torch.arange(width)) else None
