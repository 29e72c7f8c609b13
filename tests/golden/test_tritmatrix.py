from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from tritstream.golden.matrix import TritMatrix

from support.golden_cases import integer_matrix

MATRIX = integer_matrix(7, 20, 2)


def altered(values, index, value):
    values = values.copy()
    values[index] = value
    return values


def test_sizes():
    assert (MATRIX.rows, MATRIX.columns, MATRIX.groups) == (7, 20, 2)
    assert MATRIX.q.shape == (7, 32)


@pytest.mark.parametrize(("depth", "half", "information", "stored"), [
    (1, 1, 1.88, 1.9), (2, 4, 3.47, 3.5), (3, 13, 5.05, 5.1), (4, 40, 6.64, 6.7),
])
def test_figures_of_the_depth(depth, half, information, stored):
    matrix = integer_matrix(2, 16, depth)
    assert matrix.half_range == half
    assert round(matrix.information_bits, 2) == information
    assert matrix.stored_bits == pytest.approx(stored, rel=1e-15)


@pytest.mark.parametrize(("change", "message"), [
    ({"depth": 0}, r"^depth must be 1\.\.4, not 0$"),
    ({"depth": 5}, r"^depth must be 1\.\.4, not 5$"),
    ({"depth": True}, r"^depth must be 1\.\.4, not True$"),
    ({"depth": 2.5}, r"^depth must be 1\.\.4, not 2\.5$"),
    ({"shape": (0, 20)}, r"^shape must be two positive integers, not \(0, 20\)$"),
    ({"shape": (7, 0)}, r"^shape must be two positive integers, not \(7, 0\)$"),
    ({"shape": (7, -1)}, r"^shape must be two positive integers, not \(7, -1\)$"),
    ({"shape": (7,)}, r"^shape must be two positive integers, not \(7,\)$"),
    ({"shape": (8, 20)}, r"^q must be int8 \(8, 32\), not int8 \(7, 32\)$"),
    ({"shape": (7, 33)}, r"^q must be int8 \(7, 48\), not int8 \(7, 32\)$"),
    ({"shape": (7, 16)}, r"^q must be int8 \(7, 16\), not int8 \(7, 32\)$"),
    ({"q": MATRIX.q.astype(np.int64)}, r"^q must be int8 \(7, 32\), not int64 \(7, 32\)$"),
    ({"q": MATRIX.q[:, :20]}, r"^q must be int8 \(7, 32\), not int8 \(7, 20\)$"),
    ({"q": altered(MATRIX.q, (3, 4), 5)},
     r"^q must be within -4\.\.4 at depth 2, not -4\.\.5$"),
    ({"q": altered(MATRIX.q, (6, 19), -5)},
     r"^q must be within -4\.\.4 at depth 2, not -5\.\.4$"),
    ({"q": altered(MATRIX.q, (0, 0), -128)},
     r"^q must be within -4\.\.4 at depth 2, not -128\.\.4$"),
    ({"codes": MATRIX.codes.astype(np.int8)},
     r"^codes must be uint8 \(7, 2\), not int8 \(7, 2\)$"),
    ({"codes": MATRIX.codes[:, :1]}, r"^codes must be uint8 \(7, 2\), not uint8 \(7, 1\)$"),
    ({"codes": altered(MATRIX.codes, (6, 1), 27)}, r"^codes must be 0\.\.26, not 27$"),
    ({"table": MATRIX.table.astype(np.float64)},
     r"^table must be float32 \(27,\), not float64 \(27,\)$"),
    ({"table": MATRIX.table[:26]}, r"^table must be float32 \(27,\), not float32 \(26,\)$"),
    ({"table": altered(MATRIX.table, 26, 0)},
     r"^table must be finite and positive, not 0\.0 at code 26$"),
    ({"table": altered(MATRIX.table, 0, -1)},
     r"^table must be finite and positive, not -1\.0 at code 0$"),
    ({"table": altered(MATRIX.table, 5, np.inf)},
     r"^table must be finite and positive, not inf at code 5$"),
    ({"table": altered(MATRIX.table, 5, np.nan)},
     r"^table must be finite and positive, not nan at code 5$"),
])
def test_wrong_parts(change, message):
    with pytest.raises(ValueError, match=message):
        replace(MATRIX, **change)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_extreme_parts_are_taken(depth):
    half = (3**depth - 1) // 2
    for q in (-half, half):
        matrix = TritMatrix(depth, (1, 16), np.full((1, 16), q, np.int8),
                            np.full((1, 1), 26, np.uint8), np.full(27, 1e-45, np.float32))
        assert matrix.q[0, 0] == q


def test_parts_cannot_be_replaced():
    with pytest.raises(FrozenInstanceError, match=r"^cannot assign to field 'depth'$"):
        MATRIX.depth = 3
