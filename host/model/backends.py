"""Backends for the products of packed matrices: integers by numpy, numba or a device, or floats."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial, reduce
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from tritstream.golden.activation import LEVELS, RULES, quantize_activation, quantize_activation16
from tritstream.golden.gemv import gemv, results
from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed_matrix import StoredMatrix
from tritstream.host.device_group import DeviceGroup
from tritstream.host.errors import HostError
from tritstream.host.kernels.torch_matrix import TorchMatrix
from tritstream.host.model.siblings import Siblings
from tritstream.host.placement.work import steps_of_checkpoint
from tritstream.host.protocol.records import Info, Stats

if TYPE_CHECKING:
    from tritstream.host.kernels.cpu_matrix import CpuMatrix

__all__ = [
    "INTEGER_BACKENDS",
    "ActivationBits",
    "Backend",
    "Cost",
    "CpuBackend",
    "DeviceBackend",
    "GoldenBackend",
    "MatrixDevice",
    "Product",
    "ReferenceBackend",
    "TilesHolder",
    "TorchBackend",
]

#: Bits per activation, 8 or 16: a number for all matrices, or a mapping from globs of module names
#: to numbers. The last glob that matches counts; without a match, activations have 8 bits.
ActivationBits = int | Mapping[str, int]

#: Function from float32 (T, K) to digits in base 256, highest first, each int8 (T, K), and scales.
_Quantizer = Callable[[np.ndarray], tuple[list[np.ndarray], np.ndarray]]


class Product(Protocol):
    """Product with a loaded matrix W (N, K): float (T, K) to float (T, N), ``x @ W.T``."""

    def __call__(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class TilesHolder(Protocol):
    """Product that holds the packed matrix itself, so that a layer need not hold it as well."""

    def tiles(self) -> np.ndarray:
        """Return the tiles of the matrix, or trits that are stored apart, as in the checkpoint."""


class MatrixDevice(Protocol):
    """Interface of :class:`.Device` and :class:`.DeviceGroup` that a backend uses."""

    async def identify(self) -> Info: ...

    async def prepare(self, matrix: StoredMatrix, name: str) -> Any: ...

    async def gemv_all(
        self, matrices: Sequence[Any], x: np.ndarray,
    ) -> list[tuple[np.ndarray, Stats]]: ...


@dataclass(frozen=True)
class Cost:
    """Counters of a device, and the wall time of the requests in seconds."""

    stats:   Stats = Stats()
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.stats + other.stats, self.seconds + other.seconds)


class Backend(ABC):
    """Source of :class:`Product` objects for the matrices of a checkpoint."""

    @abstractmethod
    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Read a matrix once, and return its product."""

    def take_cost(self) -> Cost:
        """Return the cost of the products on a device since the last call, and reset it."""
        return Cost()


class ReferenceBackend(Backend):
    """Products in floating point, with dequantized weights and unquantized activations."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        self._dtype = dtype

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Dequantize a matrix, and return its product: :meth:`Backend.prepare`."""
        weight = torch.from_numpy(dequantize(checkpoint.matrix(name))).to(self._dtype)
        return lambda x: torch.nn.functional.linear(x.to(weight), weight)


class _IntegerBackend(Backend):
    """Integer products: activations with one scale per vector, int64 row sums, float32 results.

    The checkpoint determines the rule by which activations become 8 bits.
    """

    def __init__(self, activation_bits: ActivationBits = 8):
        rules = {"*": activation_bits} if isinstance(activation_bits, int) else activation_bits
        for bits in rules.values():
            if bits not in LEVELS:
                raise ValueError(f"activation bits must be 8 or 16, not {bits!r}")
        self._rules = {"*": 8, **rules}

    def _bits(self, name: str) -> int:
        """Return the bits per activation for a matrix."""
        return [bits for rule, bits in self._rules.items() if fnmatchcase(name, rule)][-1]

    def _quantizer(self, checkpoint: PackedCheckpoint, name: str) -> _Quantizer:
        """Return the function that quantizes the vectors of a matrix."""
        return _QUANTIZERS[self._bits(name), checkpoint.inputs.activations]


class GoldenBackend(_IntegerBackend):
    """Integer products of :mod:`tritstream.golden.gemv`.

    Parameters
    ----------
    activation_bits : int or mapping
        Bits per activation: 8, or 16 as two int8 columns. For bits per module, see
        :data:`ActivationBits`.
    """

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Read a matrix, and return its product: :meth:`Backend.prepare`."""
        units, matrix = checkpoint.units(name), checkpoint.matrix(name)
        quantize = self._quantizer(checkpoint, name)

        def linear(x: np.ndarray) -> np.ndarray:
            digits, scales = quantize(x)
            sums = gemv(matrix, np.concatenate(digits))
            return _results(sums, len(digits), units, matrix.depth, scales)

        return partial(_on_host, linear)


class CpuBackend(_IntegerBackend):
    """Integer products of :class:`.CpuMatrix`. Results equal those of :class:`GoldenBackend`.

    The weights stay packed in memory, in another order, and only once: the layers of a model give
    up their tiles, which are made again when the model is saved.

    Parameters
    ----------
    activation_bits : int or mapping
        Bits per activation, as for :class:`GoldenBackend`.

    Raises :class:`.HostError` if numba is not installed.
    """

    def __init__(self, activation_bits: ActivationBits = 8):
        super().__init__(activation_bits)
        if not find_spec("numba"):
            raise HostError("the backend cpu needs numba: pip install 'tritstream[fast]', or take "
                            "the backend golden: the results are the same")

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Read a matrix, and return its product: :meth:`Backend.prepare`."""
        # numba takes a second to import, and is an extra.
        from tritstream.host.kernels.cpu_matrix import CpuMatrix

        return _CpuProduct(CpuMatrix(checkpoint.stored(name)), self._bits(name),
                           checkpoint.inputs.activations)


class TorchBackend(_IntegerBackend):
    """Integer products of torch on a GPU. Results equal those of :class:`GoldenBackend`.

    The weights stay packed in the memory of the GPU.

    Parameters
    ----------
    activation_bits : int or mapping
        Bits per activation, as for :class:`GoldenBackend`.
    device : str
        Device of torch, by default the current GPU.

    Raises :class:`.HostError` if torch has no GPU.
    """

    def __init__(self, activation_bits: ActivationBits = 8, device: str = "cuda"):
        super().__init__(activation_bits)
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise HostError("the backend cuda needs a GPU, and torch finds none: install a torch "
                            "for CUDA, or take the backend cpu: the results are the same")

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Copy a matrix to the GPU, and return its product: :meth:`Backend.prepare`."""
        matrix = TorchMatrix(checkpoint.stored(name), self._device)
        return partial(matrix.linear, bits=self._bits(name), rule=checkpoint.inputs.activations)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """Matrix that is prepared for a device, and what its row sums mean: :func:`.results`."""

    matrix: Any
    units:  np.ndarray
    depth:  int


class DeviceBackend(_IntegerBackend):
    """Integer products computed by a device. Results equal those of :class:`GoldenBackend`.

    Matrices that read the same vectors are multiplied together: :class:`.Siblings`.

    Parameters
    ----------
    device : MatrixDevice
        Open device or group of devices.
    run : callable
        Function that calls a coroutine function with arguments, waits, and returns the result, such
        as :meth:`.OwnLoop.run`.
    activation_bits : int or mapping
        Bits per activation, as for :class:`GoldenBackend`.
    """

    def __init__(self, device: MatrixDevice, run: Callable[..., Any],
                 activation_bits: ActivationBits = 8):
        super().__init__(activation_bits)
        self._device, self._run = device, run
        self._siblings = {quantize: Siblings(partial(self._multiply, quantize))
                          for quantize in _QUANTIZERS.values()}
        self._cost = Cost()
        self._placed: PackedCheckpoint | None = None

    def identify(self) -> Info:
        """Return the description of the device from its INFO response."""
        return self._run(self._device.identify)

    def take_cost(self) -> Cost:
        """Return the cost, and reset it: :meth:`Backend.take_cost`."""
        cost, self._cost = self._cost, Cost()
        return cost

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Load a matrix, and return its product: :meth:`Backend.prepare`."""
        self._place(checkpoint)
        prepared = self._run(self._device.prepare, checkpoint.stored(name), name)
        matrix = _Loaded(prepared, checkpoint.units(name), checkpoint.matrices[name].depth)
        siblings = self._siblings[self._quantizer(checkpoint, name)]
        return partial(_on_host, partial(siblings.product, matrix))

    def _place(self, checkpoint: PackedCheckpoint) -> None:
        """Place the matrices of a checkpoint on the devices of a group, when it is new."""
        if checkpoint is not self._placed and isinstance(self._device, DeviceGroup):
            self._run(self._device.place, steps_of_checkpoint(checkpoint, checkpoint.matrices))
        self._placed = checkpoint

    def _multiply(
        self, quantize: _Quantizer, matrices: Sequence[_Loaded], x: np.ndarray,
    ) -> list[np.ndarray]:
        """Multiply several matrices with float32 (T, K); return float32 (T, N) of each."""
        digits, scales = quantize(x)
        began = time.perf_counter()
        products = self._run(self._device.gemv_all, [each.matrix for each in matrices],
                             np.concatenate(digits))
        self._cost += Cost(Stats.total([stats for _, stats in products]),
                           time.perf_counter() - began)
        return [_results(sums, len(digits), each.units, each.depth, scales)
                for (sums, _), each in zip(products, matrices, strict=True)]


def _results(
    sums: np.ndarray, digits: int, units: np.ndarray, depth: int, scales: np.ndarray,
) -> np.ndarray:
    """Return float32 (T, N) for the row sums of all digits, highest first, int64 (digits * T, N).
    """
    by_digit = np.split(sums, digits) if digits > 1 else [sums]
    total = reduce(lambda high, low: 256 * high + low, by_digit)
    return results(total, units, depth, scales)


class _CpuProduct:
    """Product that holds a matrix: :class:`TilesHolder`."""

    def __init__(self, matrix: "CpuMatrix", bits: int, rule: str):
        self._matrix, self._bits, self._rule = matrix, bits, rule

    def __call__(self, x: Tensor) -> Tensor:
        return _on_host(partial(self._matrix.linear, bits=self._bits, rule=self._rule), x)

    def tiles(self) -> np.ndarray:
        return self._matrix.tiles()


def _on_host(linear: Callable[[np.ndarray], np.ndarray], x: Tensor) -> Tensor:
    return torch.from_numpy(linear(x.float().numpy(force=True))).to(x.device)


def _one_digit(rule: str, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Quantize to 8 bits: one digit, int8 (T, K), and float64 scales (T,)."""
    levels, scales = quantize_activation(x, rule)
    return [levels], scales


def _two_digits(x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Quantize to 16 bits: two digits in base 256, highest first, each int8 (T, K), and scales."""
    high, low, scales = quantize_activation16(x)
    return [high, low], scales


#: Quantizers of activations by bits per activation and rule. 16 bits have one rule.
_QUANTIZERS: dict[tuple[int, str], _Quantizer] = {
    **{(8, rule): partial(_one_digit, rule) for rule in RULES},
    **{(16, rule): _two_digits for rule in RULES}}

#: Backends with golden's integers, by name, which take bits per activation.
INTEGER_BACKENDS: dict[str, Callable[[ActivationBits], Backend]] = {
    "golden": GoldenBackend, "cpu": CpuBackend, "cuda": TorchBackend}
