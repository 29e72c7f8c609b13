"""Cut the matrices of a step between devices or channels, so that all of them end together.

The row blocks of all matrices are laid out one after the other, and each unit takes the next ones
up to its share of the work. Where a share ends inside a row block, the block is cut between two
columns: the first unit takes the columns on the left, and the next unit those on the right. Integer
row sums of the two are added, which is exact. So rows are split where there are many, and columns
where there are few.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tritstream.golden.fixed_point import ROWS, row_blocks
from tritstream.host.placement.work import Span, Work
from tritstream.host.protocol.frames import padded
from tritstream.hw.protocol import REQUEST_ALIGN

__all__ = ["CUT_WORDS", "Region", "Share", "Unit", "block_words", "cut"]

#: Words that a part of a row block must have by default, because a further GEMV frame takes 100 to
#: 200 cycles.
CUT_WORDS = 256

#: Columns are cut if that is faster by this factor, because each part returns all of its row sums.
_ROWS_FIRST = 1.05
#: Halvings in the search for the shortest time.
_HALVINGS = 32


@dataclass(frozen=True)
class Unit:
    """A device, or a memory channel with its engine, that takes parts of matrices.

    Members
    -------
    name : str
    lanes, max_k : int
        Bytes per word, and columns that it holds.
    rate : float
        Words per second, or relative to the other units.
    memory : int or None
        Bytes for words of weights; None if the words are sent for each product.
    card : int
        Number of the card that the unit is on. Units of a card share the layers of the card.
    """

    name:   str
    lanes:  int
    max_k:  int
    rate:   float = 1.0
    memory: int | None = None
    card:   int = 0

    def blocks(self, span: Span) -> int:
        """Return the row blocks of a part of a matrix."""
        return row_blocks(ROWS * len(span.tiles), self.lanes)

    def words(self, work: Work, span: Span) -> int:
        """Return the words of a part of a matrix, in which rows are not folded."""
        return self.blocks(span) * sum(block_words(work, self.max_k, len(span.chunks)))

    def nbytes(self, work: Work, span: Span) -> int:
        """Return the bytes of memory that a part of a matrix takes, aligned as it is stored."""
        size = self.blocks(span) * self.lanes
        return sum(padded(size * words, REQUEST_ALIGN)
                   for words in block_words(work, self.max_k, len(span.chunks)))


@dataclass(frozen=True)
class Region:
    """A matrix, or a part of it, that is to be cut."""

    work: Work
    span: Span


@dataclass(frozen=True)
class Share:
    """A part of a matrix that a unit multiplies: index of the unit, the matrix, and the part."""

    unit: int
    work: Work
    span: Span


@lru_cache(1 << 16)
def block_words(work: Work, max_k: int, chunks: int) -> tuple[int, ...]:
    """Return the words of a row block of so many chunks, per part that fits max K."""
    scales = work.scales(max_k)
    step = max_k // scales.columns * scales.length
    return tuple(scales.block_words(work.depth, min(step, chunks - first))
                 for first in range(0, chunks, step))


def cut(
    regions: Sequence[Region], units: Sequence[Unit], left: Sequence[int | None],
    least: int = CUT_WORDS,
) -> list[Share] | None:
    """Cut matrices between units, so that the slowest unit takes the shortest time.

    Parameters
    ----------
    regions : sequence of Region
        Matrices that are multiplied together, or parts of them.
    units : sequence of Unit
    left : sequence of int or None
        Bytes of memory that each unit has left; None is no limit.
    least : int
        Words that each part of a row block must have.

    Returns the shares in the order of the matrices, or None if they do not fit the memory.
    """
    rows = _shortest(regions, units, left, None)
    found = _shortest(regions, units, left, least)
    if rows and found and rows[0] <= _ROWS_FIRST * found[0]:
        return rows[1]
    return found[1] if found else None


def _shortest(
    regions: Sequence[Region], units: Sequence[Unit], left: Sequence[int | None],
    least: int | None,
) -> tuple[float, list[Share]] | None:
    """Return the shortest time, and the shares of it; columns are not cut without ``least``."""
    short, slow = 0.0, max(sum(unit.words(one.work, one.span) for one in regions) / unit.rate
                           for unit in units)
    found = _deal(regions, units, slow, left, least)
    if found is None:
        return None
    for _ in range(_HALVINGS):
        middle = (short + slow) / 2
        shares = _deal(regions, units, middle, left, least)
        if shares is None:
            short = middle
        else:
            slow, found = middle, shares
    return slow, found


def _deal(
    regions: Sequence[Region], units: Sequence[Unit], time: float, left: Sequence[int | None],
    least: int | None,
) -> list[Share] | None:
    """Deal the work out to units that have so much time; None if something is left over."""
    rest, shares = list(reversed(regions)), []
    # Only the last share may have a partly filled row block: it goes to the narrowest unit.
    for index in sorted(range(len(units)), key=lambda index: -units[index].lanes):
        words = int(time * units[index].rate * (1 + 1e-12))
        shares += [Share(index, *part)
                   for part in _take(rest, units[index], words, left[index], least)]
    return None if rest else shares


def _take(
    rest: list[Region], unit: Unit, words: int, room: int | None, least: int | None,
) -> Iterator[tuple[Work, Span]]:
    """Yield the next parts, up to so many words and bytes, and remove them from ``rest``.

    ``rest`` has the next region last.
    """
    while rest:
        region = rest.pop()
        most = words
        if room is not None:
            parts = len(block_words(region.work, unit.max_k, len(region.span.chunks)))
            most = min(words, (room - parts * (REQUEST_ALIGN - 1)) // unit.lanes)
        mine, others = _part(region, unit, max(0, most), least)
        rest += reversed(others)
        if mine is None:
            return
        words -= unit.words(region.work, mine)
        room = None if room is None else room - unit.nbytes(region.work, mine)
        yield region.work, mine


def _part(
    region: Region, unit: Unit, words: int, least: int | None,
) -> tuple[Span | None, list[Region]]:
    """Return the part of a region that a unit takes, or None, and the rest."""
    work, tiles, chunks = region.work, region.span.tiles, region.span.chunks
    blocks = words // sum(block_words(work, unit.max_k, len(chunks)))
    if blocks:
        at = min(tiles.start + blocks * unit.lanes, tiles.stop)
        return (Span(range(tiles.start, at), chunks),
                _regions(work, Span(range(at, tiles.stop), chunks)))
    taken = 0 if least is None else _chunks(work, len(chunks), unit, words, least)
    if not taken:
        return None, [region]
    middle = chunks.start + taken
    at = min(tiles.start + unit.lanes, tiles.stop)
    block = range(tiles.start, at)
    return (Span(block, range(chunks.start, middle)),
            _regions(work, Span(block, range(middle, chunks.stop)),
                     Span(range(at, tiles.stop), chunks)))


def _chunks(work: Work, chunks: int, unit: Unit, words: int, least: int) -> int:
    """Return how many chunks of a row block a unit takes, less than all of them."""
    def words_of(count: int) -> int:
        return sum(block_words(work, unit.max_k, count))

    taken = min(chunks * words // words_of(chunks), chunks - 1) // work.step * work.step
    while taken > 0 and (words_of(taken) > words or words_of(chunks - taken) < least):
        taken -= work.step
    return taken if taken > 0 and words_of(taken) >= least else 0


def _regions(work: Work, *spans: Span) -> list[Region]:
    return [Region(work, span) for span in spans if span.tiles and span.chunks]
