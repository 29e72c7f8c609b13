"""Random words of a GEMV with groups of any length and either kind of scales, and its row sums.

Trits are decoded by golden, which has pins of its own. The order of direct mantissas and the sums
follow docs/protocol.md and docs/packed-format.md, in int64.
"""

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS, SCALE_TRITS, SCALES
from tritstream.golden.trit import decode, to_trit
from tritstream.hw.compute.result_banks import UnitMap
from tritstream.hw.protocol import DIRECT_WORDS, GemvArguments

__all__ = ["GemvWords", "direct_words"]


def direct_words(mantissas: np.ndarray) -> np.ndarray:
    """Return the ten words (10, L) of the mantissas (L, 5) of a group."""
    lanes = len(mantissas)
    of, words = UnitMap(lanes), np.zeros((DIRECT_WORDS, lanes), np.uint8)
    for place, unit, row in np.ndindex(of.places, of.units, ROWS):
        turns = range(of.unit_lanes(unit))
        a = [of.lane(place, unit, turn, 0) for turn in turns]
        m = [int(mantissas[of.lane(place, unit, turn, row), row]) for turn in turns]
        even, odd = words[2 * row], words[2 * row + 1]
        if len(a) == 1:
            even[a[0]], odd[a[0]] = m[0] & 255, m[0] >> 8
            continue
        even[a[0]], even[a[1]] = m[0] & 255, m[0] >> 8
        odd[a[0]],  odd[a[1]]  = m[1] & 255, m[1] >> 8
        if len(a) == 3:
            even[a[2]], odd[a[2]] = m[2] & 255, m[2] >> 8
    return words


class GemvWords:
    """Random words, scales and activations of a GEMV.

    Parameters
    ----------
    lanes : int
        Bytes per word.
    arguments : GemvArguments
        Sizes.
    seed : int
        Seed of all random values.
    table : numpy.ndarray, optional
        Mantissas of the scale codes, int64 (27,); random if None.

    Members
    -------
    x : numpy.ndarray
        Activations, int8 (columns, 16 chunks).
    digits, scales : numpy.ndarray
        Bytes of digits, uint8 (blocks, 16 chunks, depth, L). Scales by block, group and lane:
        three bytes of digits of codes, or five mantissas.
    """

    def __init__(self, lanes: int, arguments: GemvArguments, seed: int = 0,
                 table: np.ndarray | None = None):
        self.lanes, self.arguments = lanes, arguments
        rng = np.random.default_rng([seed, lanes])
        groups, columns = -(-arguments.chunks // arguments.length), GROUP * arguments.chunks
        self.x      = rng.integers(-128, 128, (arguments.columns, columns), np.int8)
        self.table  = rng.integers(0, 1 << 17, SCALES) if table is None else table
        self.digits = rng.integers(0, 256, (arguments.blocks, columns, arguments.depth, lanes),
                                   np.uint8)
        shape = arguments.blocks, groups, lanes
        if arguments.direct:
            self.scales = rng.integers(0, 1 << 16, (*shape, ROWS))
            # Rows of dead groups, and of the largest mantissas.
            self.scales[rng.random(self.scales.shape) < 0.1] = 0
            self.scales[rng.random(self.scales.shape) < 0.1] = (1 << 16) - 1
        else:
            self.scales = rng.integers(0, 256, (*shape, SCALE_TRITS), np.uint8)

    @property
    def words(self) -> np.ndarray:
        """Words in the order in which a device takes them: uint8 (blocks, block words, L)."""
        arguments, blocks = self.arguments, []
        for digits, scales in zip(self.digits, self.scales, strict=True):
            parts = []
            for group, at in enumerate(range(0, len(digits), GROUP * arguments.length)):
                some = digits[at:at + GROUP * arguments.length]
                parts += [some.reshape(-1, self.lanes), self._tail(scales[group])]
            blocks.append(np.concatenate(parts))
        return np.stack(blocks)

    def _tail(self, scales: np.ndarray) -> np.ndarray:
        return direct_words(scales) if self.arguments.direct else scales.T

    @property
    def mantissas(self) -> np.ndarray:
        """Factors of the group sums, int64 (blocks, groups, L, 5)."""
        if self.arguments.direct:
            return self.scales
        digits = decode(self.scales).astype(np.int64)           # (blocks, groups, L, 3, 5)
        return self.table[np.einsum("bglir,i->bglr", digits, [1, 3, 9])]

    @property
    def sums(self) -> np.ndarray:
        """Row sums, int64 (columns, blocks, 5 L)."""
        arguments = self.arguments
        trits   = to_trit(decode(self.digits)).astype(np.int64)  # (blocks, K, d, L, 5)
        q       = np.einsum("bkdlr,d->bklr", trits, 3**np.arange(arguments.depth))
        factors = np.repeat(self.mantissas, GROUP * arguments.length, axis=1)[:, :q.shape[1]]
        sums    = np.einsum("bklr,bklr,ck->cblr", q, factors, self.x.astype(np.int64))
        return sums.reshape(len(self.x), arguments.blocks, -1)
