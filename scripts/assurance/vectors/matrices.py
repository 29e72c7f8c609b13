"""Matrices of the vectors, with activations; each covers another property of the format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from tritstream.golden.activation import quantize_activation
from tritstream.golden.fixed_point import GROUP, ROWS, SCALES, half_range, tiles_shape
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.tiles import pack, unpack
from tritstream.golden.trit import is_canonical
from tritstream.scripts.assurance.vectors.numbers import integers

__all__ = ["Case", "Vector", "blocks_case", "longest_case", "refused_case",
           "small_cases"]

_TOP = 2 ** 17 - 1
#: Extreme activations.
_LOWEST, _HIGHEST = -128, 127


@dataclass(frozen=True, eq=False)
class Vector:
    """Activations of a product with their scale.

    Members
    -------
    name : str
        Name in the files.
    x : numpy.ndarray
        int8 (K,).
    scale : float
        Value of one unit.
    floats : numpy.ndarray or None
        Unquantized activations, float64 (K,), or None.
    """

    name:   str
    x:      np.ndarray
    scale:  float
    floats: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A packed matrix with activations.

    Members
    -------
    name, about : str
        Name and purpose in the files.
    depth, shape : int, tuple
        Trits per weight; rows N and columns K.
    tiles, table : numpy.ndarray
        As a packed checkpoint stores them.
    vectors : tuple of Vector
        At least one.
    """

    name:    str
    about:   str
    depth:   int
    shape:   tuple[int, int]
    tiles:   np.ndarray
    table:   np.ndarray
    vectors: tuple[Vector, ...]

    @cached_property
    def matrix(self) -> TritMatrix:
        """The matrix as integers."""
        return unpack(self.tiles, self.depth, self.shape, self.table)


@cache
def small_cases(depth: int) -> tuple[Case, ...]:
    """Return the cases that fit every device, with any number of lanes."""
    return tuple(_small_cases(depth))


@cache
def blocks_case(depth: int, lanes: int) -> Case:
    """Return a case of three row blocks; the last uses one lane and three of its five rows."""
    return _drawn(f"blocks{lanes}", f"three row blocks at L = {lanes}, the last with three rows",
                  depth, (2 * ROWS * lanes + 3, 20), ("random", "other"))


@cache
def refused_case(lanes: int) -> Case:
    """Return a case of two row blocks with few words, for GEMVs that are refused."""
    return _drawn(f"refused{lanes}", "two row blocks of few words", 1, (ROWS * lanes + 1, 16),
                  ("random",))


@cache
def longest_case() -> Case:
    """Return the case with the largest row sums, 45 bits and sign: K = 32768 at depth 4."""
    return _saturated("longest", "K = 32768, the largest sums there are", 4, (5, 32768),
                      ("lowest",))


def _small_cases(depth: int) -> Iterator[Case]:
    key = f"d{depth}"
    yield _drawn("smallest", "one row and one group, K = 16", depth, (1, 16),
                 ("random", "lowest", "highest", "zero"))
    yield _drawn("ragged", "rows are no multiple of 5, K is none of 16; has a bias", depth, (7, 20),
                 ("random", "zero"))
    yield _saturated("saturated", "every trit and every code saturated, signs by row", depth,
                     (11, 32), ("lowest", "highest", "alternating"))
    yield _coded("zeros", "all weights zero, codes are not", depth, np.zeros((6, 17), int),
                 integers(f"{key}/zeros/codes", SCALES, 6, 2), _table(f"{key}/zeros"), ("random",))
    yield _every_code("wide", "a table of ratio 2^26: mantissa 0 from code 18 on, a tie at code 1",
                      depth, np.ldexp(1.0, -np.arange(SCALES)))
    yield _second(depth)
    yield _ties(depth)
    yield _every_code("near", "odd table entries over 262142: all mantissas but one are ties",
                      depth, _near_table(f"{key}/near"))


def _drawn(name, about, depth, shape, vectors) -> Case:
    key = f"d{depth}/{name}"
    half, groups = half_range(depth), -(-shape[1] // GROUP)
    q = integers(f"{key}/q", 2 * half + 1, *shape) - half
    return _coded(name, about, depth, q, integers(f"{key}/codes", SCALES, shape[0], groups),
                  _table(key), vectors)


def _saturated(name, about, depth, shape, vectors) -> Case:
    """Return rows of the highest weights, of the lowest, and of both alternating."""
    rows, columns = np.ogrid[:shape[0], :shape[1]]
    sign = np.choose(rows % 3, [1, -1, 1 - 2 * (columns % 2)])
    table = _table(f"d{depth}/{name}")
    table[-1] = 1
    return _coded(name, about, depth, half_range(depth) * sign,
                  np.full((shape[0], -(-shape[1] // GROUP)), SCALES - 1), table, vectors)


def _every_code(name, about, depth, table) -> Case:
    half = half_range(depth)
    q = integers(f"d{depth}/{name}/q", 2 * half + 1, 9, 48) - half
    return _coded(name, about, depth, q, np.arange(SCALES).reshape(9, 3), table, ("random",))


def _second(depth: int) -> Case:
    """Return random bytes, among them every non-canonical code."""
    name, shape = "second", (10, 32)
    tiles = integers(f"d{depth}/{name}/bytes", 256, *tiles_shape(shape, depth)).astype(np.uint8)
    every = np.arange(256, dtype=np.uint8)
    second = every[~is_canonical(every)]
    tiles[0, 0, :len(second)] = second
    tiles[1, 1, -3:] = second[:3]
    return _case(name, "bytes that a reader must take and a writer must not write: the second code "
                 "of their trits", depth, shape, tiles, _table(f"d{depth}/{name}"),
                 ("random", "lowest"))


def _ties(depth: int) -> Case:
    """``c`` is 1, so results are sums rounded to float32; activations are halves."""
    key, half, rows = f"d{depth}/ties", half_range(depth), 25
    table = 1.0 + integers(f"{key}/table", _TOP * half - 1, SCALES)
    table[:2] = _TOP * half, _TOP * half / 2
    codes = integers(f"{key}/codes", SCALES, rows, 1)
    codes[:20, 0] = 0
    codes[20, 0] = 1
    floats = integers(f"{key}/floats", 252, GROUP) - 125.5
    floats[0] = 127
    x, scale = quantize_activation(floats)
    q = integers(f"{key}/q", 2 * half + 1, rows, GROUP) - half
    # Levels of halves are even, but for the first, 127: odd sums of 2^24 to 2^25.
    places = np.arange(10)
    q[places] = 0
    q[places, 0], q[places, places + 1] = 1, np.where(x[places + 1] < 0, -1, 1)
    return _coded("ties", "ties in mantissas, in activations and in results", depth, q, codes,
                  table, (Vector("halves", x, float(scale), floats),))


def _coded(name, about, depth, q, codes, table, vectors: Sequence[str | Vector]) -> Case:
    padded = np.zeros((len(q), GROUP * codes.shape[1]), np.int8)
    padded[:, :q.shape[1]] = q
    table = np.asarray(table, np.float32)
    matrix = TritMatrix(depth, q.shape, padded, codes.astype(np.uint8), table)
    return _case(name, about, depth, q.shape, pack(matrix), table, vectors)


def _case(name, about, depth, shape, tiles, table, vectors: Sequence[str | Vector]) -> Case:
    made = tuple(vector if isinstance(vector, Vector) else
                 _vector(f"d{depth}/{name}", vector, shape[1]) for vector in vectors)
    return Case(name, about, depth, tuple(shape), tiles, np.asarray(table, np.float32), made)


def _vector(key: str, name: str, k: int) -> Vector:
    fixed: dict[str, int | np.ndarray] = {"lowest": _LOWEST, "highest": _HIGHEST, "zero": 0,
             "alternating": np.where(np.arange(k) % 2, _HIGHEST, _LOWEST)}
    x = fixed.get(name, integers(f"{key}/{name}", 256, k) - 128)
    scale = 0.0 if name == "zero" else float(np.ldexp(1.0 + integers(f"{key}/{name}/scale",
                                                                     1 << 30, 1)[0], -36))
    return Vector(name, np.broadcast_to(x, k).astype(np.int8), scale)


def _table(key: str) -> np.ndarray:
    """Scales in no order, the largest at most 64 times the smallest."""
    return np.ldexp(np.float32(2 ** 14) + integers(f"{key}/table", 2 ** 20 - 2 ** 14, SCALES),
                    -24).astype(np.float32)


def _near_table(key: str) -> np.ndarray:
    table = 2.0 * integers(f"{key}/table", _TOP, SCALES) + 1
    table[3] = 2 * _TOP
    return table
