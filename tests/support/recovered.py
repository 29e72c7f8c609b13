"""Check of a recovery: the quantized matrix gives all stored weights back."""

import numpy as np

from tritstream.golden.matrix import dequantize
from tritstream.golden.recover import encode
from tritstream.golden.rounding import FORMS
from tritstream.golden.tiles import pack, unpack

__all__ = ["expect_exact"]


def expect_exact(weights, found):
    """Assert that all values come back from tiles, and that the scale table is valid."""
    table = np.array(found.table, np.float32)
    matrix = encode(weights, table, found.depth, FORMS[found.form])
    again = unpack(pack(matrix), matrix.depth, matrix.shape, matrix.table, matrix.form)
    np.testing.assert_array_equal(dequantize(again).astype(weights.dtype), weights)
    assert np.isfinite(table).all() and (table > 0).all()
    assert (np.diff(table) >= 0).all()
    live = matrix.q.reshape(len(weights), -1, 16).any(axis=-1)
    if live.any():
        assert table.max() == table[matrix.codes[live]].max()
    assert not matrix.codes[~live].any()
