"""Expected values for each matrix as JSON: integers, mantissas, weights, sums, results."""

import json

import numpy as np

from tritstream.golden.activation import quantize_activation
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.slices import INPUTS_FIRST
from tritstream.golden.fixed_point import GROUP, mantissas
from tritstream.golden.gemv import dequantize_rows, gemv
from tritstream.golden.matrix import TritMatrix, row_dequantizer
from tritstream.golden.trit import decode, is_canonical
from tritstream.scripts.assurance.vectors.checkpoints import FormCase
from tritstream.scripts.assurance.vectors.matrices import Case, Vector
from tritstream.scripts.assurance.vectors.numbers import bits_of, integers

__all__ = ["activations_json", "as_json", "form_json", "product_json", "trits_json"]

#: Larger matrices are listed only by their sums, which a wrong weight would change.
_LISTED = 1000
_BIASED = "ragged"


def as_json(value: object) -> bytes:
    """Return a JSON file with one line per member of an object and per row of a matrix."""
    return (_lines(value) + "\n").encode()


def _lines(value: object, depth: int = 0) -> str:
    if depth == 4 or not isinstance(value, dict | list) or not _deep(value, depth):
        return json.dumps(value)
    pad = "  " * (depth + 1)
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {_lines(each, depth + 1)}" for name, each in value.items()]
        opening, closing = "{}"
    else:
        parts = [_lines(each, depth + 1) for each in value]
        opening, closing = "[]"
    body = f",\n{pad}".join(parts)
    return f"{opening}\n{pad}{body}\n{'  ' * depth}{closing}"


def _deep(value: dict | list, depth: int) -> bool:
    """Return whether a value takes several lines: it is outer, or has nested values."""
    parts = value.values() if isinstance(value, dict) else value
    outer = depth < 2 and isinstance(value, dict)
    return outer or any(isinstance(part, dict | list) for part in parts)


def product_json(case: Case, packed: str) -> dict:
    """Return a matrix of a checkpoint and its products with each of its vectors."""
    bias = None
    if case.name == _BIASED:
        bias = np.ldexp(integers(f"d{case.depth}/bias", 2 ** 24, case.shape[0]) - 2.0 ** 23,
                        -18).astype(np.float32)
    known = _matrix_json(case.matrix, "F16") if np.prod(case.shape) < _LISTED else {}
    return {
        "case": case.name, "about": case.about, "packed": packed, "matrix": case.name,
        "depth": case.depth, "shape": list(case.shape), "table": bits_of(case.table),
        "mantissas": mantissas(case.table).tolist(), **known,
        **({} if bias is None else {"bias": bits_of(bias)}),
        "products": [_product(case, vector, bias) for vector in case.vectors],
    }


def form_json(case: FormCase, packed: str) -> dict:
    """Return a matrix of the checkpoint of forms with the weights it represents."""
    matrix = case.matrix
    return {
        "case": case.name, "packed": packed, "matrix": case.name, "depth": matrix.depth,
        "shape": list(matrix.shape), "form": matrix.form.name, "dtype": case.dtype,
        "table": bits_of(matrix.table), **_matrix_json(matrix, case.dtype), **_slice_json(case),
    }


def _slice_json(case: FormCase) -> dict:
    """Return where the tensor with three dimensions holds a slice, and how; empty for others."""
    if case.axes is None:
        return {}
    tensor, _, index = case.name.rpartition(".")
    stored = _matrix_json(case.matrix, case.dtype)["weights"]
    if case.axes == INPUTS_FIRST:
        stored = [list(row) for row in zip(*stored, strict=True)]
    return {"axes": case.axes, "tensor": tensor, "index": int(index), "slice": stored}


def trits_json() -> dict:
    """Return the digits D0..D4 of every byte, and whether the byte is canonical."""
    every = np.arange(256, dtype=np.uint8)
    return {"digits": decode(every).tolist(), "canonical": is_canonical(every).tolist()}


def activations_json() -> dict:
    """Return activations as floats, and as int8 with a scale."""
    return {"activations": [_quantized(about, floats) for about, floats in _float_cases().items()]}


def _float_cases() -> dict[str, np.ndarray]:
    least = 5e-324
    return {
        "zeros: the scale is 0": np.zeros(GROUP),
        "one value": np.array([-0.3]),
        "ties at scale 1, half to even": np.array([127, .5, 1.5, 2.5, -.5, -1.5, -2.5, 126.5]),
        "drawn": np.ldexp(integers("activations/drawn", 2 ** 31, 40) - 2.0 ** 30, -27),
        "the largest is negative": np.array([-8.0, 7.99, 3.96, -4.03, 0.0315, 0.0314]),
        "a scale that underflows to 0: all levels are 0": least * np.array([20, -20, 3, 0]),
        "a scale of one subnormal step: levels are clipped": least * np.array([190, -190, 100, 1]),
    }


def _quantized(about: str, floats: np.ndarray) -> dict:
    x, scale = quantize_activation(floats)
    return {"about": about, "floats": bits_of(floats), "x": x.tolist(),
            "x_scale": bits_of(scale)[0]}


def _matrix_json(matrix: TritMatrix, dtype: str) -> dict:
    """Integers and codes, (N, K) and (N, K/16), and the weights in bits of their dtype."""
    weights = row_dequantizer(matrix, DTYPES[dtype])(slice(0, matrix.rows))
    return {
        "q": matrix.q[:, :matrix.columns].tolist(), "codes": matrix.codes.tolist(),
        "weights": [bits_of(row) for row in np.ascontiguousarray(_unsigned_zeros(weights))],
    }


def _unsigned_zeros(weights: np.ndarray) -> np.ndarray:
    """Signs of zeros are not part of the format."""
    return np.where(weights == 0, np.zeros_like(weights), weights)


def _product(case: Case, vector: Vector, bias: np.ndarray | None) -> dict:
    sums = gemv(case.matrix, vector.x)
    results = dequantize_rows(sums, case.table, case.depth, vector.scale)
    floats = {} if vector.floats is None else {"floats": bits_of(vector.floats)}
    biased = {} if bias is None else {"results_with_bias": bits_of(results + bias)}
    return {
        "vector": vector.name, **floats, "x": vector.x.tolist(),
        "x_scale": bits_of(np.float64(vector.scale))[0], "sums": sums.tolist(),
        "results": bits_of(results), **biased,
    }
