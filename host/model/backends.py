"""What computes the products of packed matrices: integers in numpy, a device, or plain floats."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial, reduce
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tritstream.golden.activation import quantize_activation, quantize_activation16
from tritstream.golden.gemv import dequantize_rows, gemv
from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.layout.prepare import Tiles
from tritstream.host.protocol.records import Info, Stats

__all__ = ["ActivationBits", "Backend", "Cost", "DeviceBackend", "GoldenBackend", "MatrixDevice",
           "Product", "ReferenceBackend"]

#: Bits of activations, 8 or 16: for all matrices, or by module name, ``*`` and the like allowed; of
#: several names that fit the last counts, and 8 where none does.
ActivationBits = int | Mapping[str, int]

#: int8 (B, K) to int64 row sums (B, N) of one matrix.
Multiply = Callable[[np.ndarray], np.ndarray]


class Product(Protocol):
    """A matrix W (N, K), ready to be multiplied: float (T, K) to float (T, N), ``x @ W.T``."""

    def __call__(self, x: Tensor) -> Tensor: ...


class MatrixDevice(Protocol):
    """What a :class:`.Device` or :class:`.DeviceGroup` is here."""

    async def identify(self) -> Info: ...

    async def prepare(self, matrix: Tiles, name: str) -> Any: ...

    async def gemv(self, matrix: Any, x: np.ndarray) -> tuple[np.ndarray, Stats]: ...


@dataclass(frozen=True)
class Cost:
    """What a device counted, and the wall time in which it was waited for, in seconds."""

    stats:   Stats = Stats()
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.stats + other.stats, self.seconds + other.seconds)


class Backend(ABC):
    """Maker of products."""

    @abstractmethod
    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Read a matrix, once for many products."""

    def take_cost(self) -> Cost:
        """What a device has taken for the products since this was last asked."""
        return Cost()


class ReferenceBackend(Backend):
    """Dequantized weights in floating point, activations as they are."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        self._dtype = dtype

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Dequantize a matrix: :meth:`Backend.prepare`."""
        weight = torch.from_numpy(dequantize(checkpoint.matrix(name))).to(self._dtype)
        return lambda x: torch.nn.functional.linear(x, weight)


class _IntegerBackend(Backend):
    """Activations to integers, one scale a vector; integer row sums; results in float32."""

    def __init__(self, activation_bits: ActivationBits = 8):
        rules = {"*": activation_bits} if isinstance(activation_bits, int) else activation_bits
        for bits in rules.values():
            if bits not in _DIGITS:
                raise ValueError(f"activation bits must be 8 or 16, not {bits!r}")
        self._rules = {"*": 8, **rules}

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Read a matrix: :meth:`Backend.prepare`."""
        bits = [bits for rule, bits in self._rules.items() if fnmatchcase(name, rule)][-1]
        table, depth = checkpoint.table(name), checkpoint.matrices[name].depth
        return partial(_product, _DIGITS[bits], self._multiply(checkpoint, name), table, depth)

    @abstractmethod
    def _multiply(self, checkpoint: PackedCheckpoint, name: str) -> Multiply: ...


class GoldenBackend(_IntegerBackend):
    """The integers of :mod:`tritstream.golden.gemv`.

    Parameters
    ----------
    activation_bits : int or mapping
        8, or 16 as two int8 columns; or either by module name, as :data:`ActivationBits` says.
    """

    def _multiply(self, checkpoint: PackedCheckpoint, name: str) -> Multiply:
        return partial(gemv, checkpoint.matrix(name))


class DeviceBackend(_IntegerBackend):
    """The same integers from a device.

    Parameters
    ----------
    device : MatrixDevice
    run : callable
        Of a function that makes a coroutine, and its arguments: waits for it and returns its
        result, as :meth:`tritstream.host.loop_thread.LoopThread.run`.
    activation_bits : int or mapping
        As of :class:`GoldenBackend`.
    """

    def __init__(self, device: MatrixDevice, run: Callable[..., Any],
                 activation_bits: ActivationBits = 8):
        super().__init__(activation_bits)
        self._device, self._run = device, run
        self._cost = Cost()

    def identify(self) -> Info:
        """Ask the device what it is."""
        return self._run(self._device.identify)

    def take_cost(self) -> Cost:
        """Count anew: :meth:`Backend.take_cost`."""
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
    digits, scales = digits_of(x.float().numpy())
    sums = np.split(multiply(np.concatenate(digits)), len(digits))
    whole = reduce(lambda high, low: 256 * high + low, sums)
    return torch.from_numpy(dequantize_rows(whole, table, depth, scales))


def _one_digit(x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Digits in base 256, highest first, each int8 (T, K); float64 scales (T,)."""
    levels, scales = quantize_activation(x)
    return [levels], scales


def _two_digits(x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The same of 16 bits."""
    high, low, scales = quantize_activation16(x)
    return [high, low], scales


#: By the bits of an activation.
_DIGITS = {8: _one_digit, 16: _two_digits}
