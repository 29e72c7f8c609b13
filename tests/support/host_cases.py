"""Cases shared by tests of the driver."""

import numpy as np
import pytest

from tritstream.golden.quantize import quantize

__all__ = ["ACTIVATIONS", "GEMV", "IDENTIFY", "RESET", "SCALES", "STATUS", "matrix_of", "multiply",
           "run_alone", "vectors"]

IDENTIFY, ACTIVATIONS, SCALES, GEMV, STATUS, RESET = range(6)


def matrix_of(rows, k, depth=2, seed=0):
    """A quantized matrix of normal weights."""
    weights = np.random.default_rng(seed).standard_normal((rows, k)).astype(np.float32)
    return quantize(weights, depth)


def vectors(*shape, seed=1):
    """Activations over all of int8."""
    return np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)


def run_alone(coroutine):
    """Run a coroutine that never waits, without any event loop."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


async def multiply(device, matrix, *batches):
    """Products of one matrix with each batch, and the last one's stats."""
    prepared = await device.prepare(matrix)
    answers = [await device.gemv(prepared, x) for x in batches]
    return [product for product, _ in answers], answers[-1][1]
