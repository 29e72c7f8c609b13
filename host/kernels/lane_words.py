"""Packed matrices in the order in which vector instructions read them."""

from dataclasses import dataclass

import numpy as np

from tritstream.golden.fixed_point import GROUP, ROWS, SCALE_TRITS
from tritstream.golden.tiles import check_tiles, word_stream
from tritstream.golden.trit import decode, to_trit
from tritstream.host.kernels.numba_products import LANES

__all__ = ["LaneWords", "lane_words"]


@dataclass(frozen=True)
class LaneWords:
    """Packed matrix as words of 32 bytes. Lane ``l`` of block ``b`` is row tile ``32b + l``.

    A weight takes as many bits as in the tiles. A scale code takes 8 bits in place of 4.8. The last
    block is padded with rows of zeros.

    Members
    -------
    numbers : numpy.ndarray
        Digits of weights, uint8 (blocks, groups, 16 * depth, 32). Word ``depth * j + i`` of a group
        holds digit ``i`` of weight ``j``, in plain base 3: ``sum_r 3^r (t_r + 1)`` for the trits
        of five rows.
    codes : numpy.ndarray
        Scale codes 0..26, uint8 (blocks, groups, 160). Index ``32r + l`` is row ``r`` of lane
        ``l``.
    """

    numbers: np.ndarray
    codes:   np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def groups(self) -> int:
        """Number of groups per row."""
        return self.codes.shape[1]


def lane_words(tiles: np.ndarray, depth: int, shape: tuple[int, int]) -> LaneWords:
    """Return the words for the tiles of a matrix, uint8 (ceil(N/5), ceil(K/16), 16d+3).

    Raises the errors of :func:`.check_tiles`.
    """
    check_tiles(tiles, depth, shape)
    words = word_stream(tiles, LANES)
    codes = _codes(words[:, :, GROUP * depth:])
    return LaneWords(_NUMBERS.take(words[:, :, :GROUP * depth]),
                     codes.reshape(*codes.shape[:2], ROWS * LANES))


def _codes(words: np.ndarray) -> np.ndarray:
    """Return the codes of words that hold their digits: (..., 3, lanes) to (..., 5, lanes)."""
    return np.stack([sum(3 ** i * digits.take(words[..., i, :]) for i in range(SCALE_TRITS))
                     for digits in _BYTES.T], axis=-2, dtype=np.uint8)


_BYTES = decode(np.arange(256, dtype=np.uint8))                                  # (byte, row)
#: Plain base 3 of trits plus one, by byte.
_NUMBERS = ((to_trit(_BYTES) + 1) @ 3 ** np.arange(ROWS)).astype(np.uint8)
