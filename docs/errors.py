"""Print the table of docs/numbers-and-errors.md: `python docs/errors.py`."""

import numpy as np

from tritstream.golden.activation import quantize_activation, quantize_activation16
from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.fixed_point import GROUP, MANTISSA_BITS, mantissas
from tritstream.golden.gemv import dequantize_rows, gemv
from tritstream.golden.matrix import dequantize
from tritstream.golden.quantize import quantize
from tritstream.scripts.running.stream import generated_activations

__all__ = ["table"]

_SHAPE, _SEED, _VECTORS = (256, 4864), 2026, 16
_COLUMNS = ["d", "trits", "int8", "16 bits", "mantissas", "float32", "device: int8, mantissas",
            "all, against the original weights"]


def _relative(actual, exact):
    """Return the root mean square of the difference over that of the exact values."""
    return float(np.sqrt(np.square(actual - exact).sum() / np.square(exact).sum()))


def _with_mantissas(matrix):
    """Return the weights that the device computes with: mantissas in place of the table."""
    table = mantissas(matrix.table) * (float(matrix.table.max()) / (2**MANTISSA_BITS - 1))
    q = matrix.q.reshape(-1, matrix.groups, GROUP) * table[matrix.codes][..., None]
    return (q / matrix.half_range).reshape(matrix.rows, -1)[:, :matrix.columns]


def _row(depth, weights, x):
    matrix = quantize(weights, depth)
    plain  = dequantize(matrix).astype(np.float64)
    exact  = x @ plain.T
    low, scale = quantize_activation(x)
    high, rest, scale16 = quantize_activation16(x)
    sums  = gemv(matrix, low)
    wide  = 256.0 * high + rest
    results = dequantize_rows(sums, matrix.table, depth, scale)
    return [
        _relative(x @ plain.T, x @ weights.T.astype(np.float64)),
        _relative((low * scale[:, None]) @ plain.T, exact),
        _relative((wide * scale16[:, None]) @ plain.T, exact),
        _relative(x @ _with_mantissas(matrix).T, exact),
        _relative(exact.astype(np.float32), exact),
        _relative(results, exact),
        _relative(results, x @ weights.T.astype(np.float64)),
    ]


def table() -> str:
    """Return a Markdown table of the relative errors of a product, by cause and depth."""
    weights = GeneratedTensor("errors.weight", "F32", _SHAPE, _SEED).read()
    x = generated_activations(_SEED, _SHAPE[1], _VECTORS).astype(np.float64)
    rows = [[str(depth), *(f"{error:.1e}" for error in _row(depth, weights, x))]
            for depth in (1, 2, 3, 4)]
    return "".join(f"| {' | '.join(line)} |\n"
                   for line in (_COLUMNS, ["---"] * len(_COLUMNS), *rows))


if __name__ == "__main__":
    print(table(), end="")
