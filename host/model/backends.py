"""Backends for the products of packed matrices: integers by numpy, numba or a device, or floats."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial, reduce
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from tritstream.golden.activation import quantize_activation, quantize_activation16
from tritstream.golden.gemv import dequantize_rows, gemv
from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.errors import HostError
from tritstream.host.kernels.torch_matrix import TorchMatrix
from tritstream.host.layout.prepare import Tiles
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

#: Function from int8 (B, K) to int64 row sums (B, N) of one matrix.
Multiply = Callable[[np.ndarray], np.ndarray]


class Product(Protocol):
    """Product with a loaded matrix W (N, K): float (T, K) to float (T, N), ``x @ W.T``."""

    def __call__(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class TilesHolder(Protocol):
    """Product that holds the packed matrix itself, so that a layer need not hold it as well."""

    def tiles(self) -> np.ndarray:
        """Return the tiles of the matrix: uint8 (ceil(N/5), ceil(K/16), 16d+3)."""


class MatrixDevice(Protocol):
    """Interface of :class:`.Device` and :class:`.DeviceGroup` that a backend uses."""

    async def identify(self) -> Info: ...

    async def prepare(self, matrix: Tiles, name: str) -> Any: ...

    async def gemv(self, matrix: Any, x: np.ndarray) -> tuple[np.ndarray, Stats]: ...


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
        return lambda x: torch.nn.functional.linear(x, weight)


class _IntegerBackend(Backend):
    """Integer products: activations with one scale per vector, int64 row sums, float32 results."""

    def __init__(self, activation_bits: ActivationBits = 8):
        rules = {"*": activation_bits} if isinstance(activation_bits, int) else activation_bits
        for bits in rules.values():
            if bits not in _DIGITS:
                raise ValueError(f"activation bits must be 8 or 16, not {bits!r}")
        self._rules = {"*": 8, **rules}

    def _bits(self, name: str) -> int:
        """Return the bits per activation for a matrix."""
        return [bits for rule, bits in self._rules.items() if fnmatchcase(name, rule)][-1]


class _HostBackend(_IntegerBackend):
    """Integer products for which numpy quantizes the activations, and converts the row sums."""

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Read a matrix, and return its product: :meth:`Backend.prepare`."""
        table, depth = checkpoint.checked_table(name), checkpoint.matrices[name].depth
        multiply = self._multiply(checkpoint, name)
        return partial(_product, _DIGITS[self._bits(name)], multiply, table, depth)

    @abstractmethod
    def _multiply(self, checkpoint: PackedCheckpoint, name: str) -> Multiply:
        """Read a matrix, and return the function that multiplies it."""


class GoldenBackend(_HostBackend):
    """Integer products of :mod:`tritstream.golden.gemv`.

    Parameters
    ----------
    activation_bits : int or mapping
        Bits per activation: 8, or 16 as two int8 columns. For bits per module, see
        :data:`ActivationBits`.
    """

    def _multiply(self, checkpoint: PackedCheckpoint, name: str) -> Multiply:
        return partial(gemv, checkpoint.matrix(name))


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

        info, table = checkpoint.matrices[name], checkpoint.checked_table(name)
        return _CpuProduct(CpuMatrix(checkpoint.tiles(name), table, info.depth, info.shape),
                           self._bits(name))


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
        info, table = checkpoint.matrices[name], checkpoint.checked_table(name)
        matrix = TorchMatrix(checkpoint.tiles(name), table, info.depth, info.shape, self._device)
        return partial(matrix.linear, bits=self._bits(name))


class DeviceBackend(_HostBackend):
    """Integer products computed by a device. Results equal those of :class:`GoldenBackend`.

    Parameters
    ----------
    device : MatrixDevice
        Open device or group of devices.
    run : callable
        Function that calls a coroutine function with arguments, waits, and returns the result, such
        as :meth:`.LoopThread.run`.
    activation_bits : int or mapping
        Bits per activation, as for :class:`GoldenBackend`.
    """

    def __init__(self, device: MatrixDevice, run: Callable[..., Any],
                 activation_bits: ActivationBits = 8):
        super().__init__(activation_bits)
        self._device, self._run = device, run
        self._cost = Cost()

    def identify(self) -> Info:
        """Return the description of the device from its INFO response."""
        return self._run(self._device.identify)

    def take_cost(self) -> Cost:
        """Return the cost, and reset it: :meth:`Backend.take_cost`."""
        cost, self._cost = self._cost, Cost()
        return cost

    def _multiply(self, checkpoint: PackedCheckpoint, name: str) -> Multiply:
        info = checkpoint.matrices[name]
        packed = (checkpoint.tiles(name), checkpoint.table(name), info.depth, info.shape)
        return partial(self._gemv, self._run(self._device.prepare, packed, name))

    def _gemv(self, matrix: Any, x: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        sums, stats = self._run(self._device.gemv, matrix, x)
        self._cost += Cost(stats, time.perf_counter() - began)
        return sums


def _product(
    digits_of: Callable, multiply: Multiply, table: np.ndarray, depth: int, x: Tensor,
) -> Tensor:
    digits, scales = digits_of(x.float().numpy(force=True))
    sums = np.split(multiply(np.concatenate(digits)), len(digits))
    total = reduce(lambda high, low: 256 * high + low, sums)
    return torch.from_numpy(dequantize_rows(total, table, depth, scales)).to(x.device)


class _CpuProduct:
    """Product that holds a matrix: :class:`TilesHolder`."""

    def __init__(self, matrix: "CpuMatrix", bits: int):
        self._matrix, self._bits = matrix, bits

    def __call__(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self._matrix.linear(x.float().numpy(force=True), self._bits)).to(
            x.device)

    def tiles(self) -> np.ndarray:
        return self._matrix.tiles()


def _one_digit(x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Quantize to 8 bits: one digit, int8 (T, K), and float64 scales (T,)."""
    levels, scales = quantize_activation(x)
    return [levels], scales


def _two_digits(x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Quantize to 16 bits: two digits in base 256, highest first, each int8 (T, K), and scales."""
    high, low, scales = quantize_activation16(x)
    return [high, low], scales


#: Quantizer of activations by bits per activation.
_DIGITS = {8: _one_digit, 16: _two_digits}

#: Backends with golden's integers, by name, which take bits per activation.
INTEGER_BACKENDS: dict[str, Callable[[ActivationBits], Backend]] = {
    "golden": GoldenBackend, "cpu": CpuBackend, "cuda": TorchBackend}
