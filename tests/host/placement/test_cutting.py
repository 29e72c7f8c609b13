"""Shares of matrices cover them exactly once, end together and fit the memory."""

import numpy as np
import pytest

from tritstream.golden.fixed_point import GROUP, group_count, longest_piece, row_tiles
from tritstream.host.placement.cutting import CUT_WORDS, Region, Unit, block_words, cut
from tritstream.host.placement.work import Work

K_PROJ = Work("k", (128, 896), 3)


def units_of(*lanes, rates=None, memory=None):
    rates = rates or [1.0] * len(lanes)
    return [Unit(f"u{place}", count, 32768, rate, memory)
            for place, (count, rate) in enumerate(zip(lanes, rates, strict=True))]


def cut_all(works, units, least=CUT_WORDS, left=None):
    return cut([Region(work, work.span) for work in works], units,
               left or [unit.memory for unit in units], least)


def covered(work, shares):
    """How many shares have each row tile and chunk."""
    counts = np.zeros((row_tiles(work.shape[0]), group_count(work.shape[1])), int)
    for share in shares:
        if share.work.name == work.name:
            tiles, chunks = share.span.tiles, share.span.chunks
            counts[tiles.start:tiles.stop, chunks.start:chunks.stop] += 1
    return counts


def words_of(units, shares):
    found = [0] * len(units)
    for share in shares:
        found[share.unit] += units[share.unit].words(share.work, share.span)
    return found


def random_work(rng, name):
    depth = int(rng.integers(1, 5))
    columns = int(rng.integers(1, 1500))
    chunks = group_count(columns)
    group = GROUP * int(rng.integers(1, chunks + 1))
    return Work(name, (int(rng.integers(1, 700)), columns), depth, group,
                bool(rng.integers(2)) and group < columns)


@pytest.mark.parametrize("seed", range(40))
def test_every_weight_is_in_one_share(seed):
    rng = np.random.default_rng(seed)
    works = [random_work(rng, f"m{place}") for place in range(rng.integers(1, 4))]
    count = int(rng.integers(1, 9))
    units = [Unit(f"u{place}", int(rng.choice([1, 2, 8, 64])),
                  GROUP * int(rng.integers(longest_piece(1) // GROUP, 200)),
                  float(rng.uniform(0.1, 5))) for place in range(count)]
    least = int(rng.choice([1, 40, CUT_WORDS]))
    shares = cut_all(works, units, least)
    for work in works:
        assert (covered(work, shares) == 1).all()
    for share in shares:
        chunks, whole = share.span.chunks, share.work.span.chunks
        # Columns are cut where a group ends.
        assert chunks.start % share.work.step == 0
        assert chunks.stop in (whole.stop, chunks.stop // share.work.step * share.work.step)
        if chunks != whole:
            unit = units[share.unit]
            assert sum(block_words(share.work, unit.max_k, len(chunks))) >= min(least, sum(
                block_words(share.work, unit.max_k, len(whole) - len(chunks)))) or least == 1


@pytest.mark.parametrize(("tiles", "lanes", "shares"), [
    (1, [8], [1]), (9, [8], [9]),
    (1, [8, 8], [1, 0]), (8, [8, 8], [8, 0]), (9, [8, 8], [8, 1]), (17, [8, 8], [16, 1]),
    (26, [8, 8], [16, 10]), (33, [8, 8], [24, 9]), (33, [8, 8, 8], [16, 16, 1]),
    (130, [64, 8], [128, 2]), (72, [64, 8], [64, 8]), (20, [64, 8], [20, 0]),
])
def test_rows_take_as_few_row_blocks_as_possible(tiles, lanes, shares):
    found = cut_all([Work("m", (5 * tiles, 64), 2)], units_of(*lanes))
    counts = {share.unit: len(share.span.tiles) for share in found}
    assert [counts.get(place, 0) for place in range(len(lanes))] == shares


def test_several_units_need_no_more_padding_than_one():
    units = units_of(8, 8, 8)
    for rows in range(1, 500, 7):
        work = Work("m", (rows, 64), 2)
        assert sum(words_of(units, cut_all([work], units))) == units[0].words(work, work.span)


def test_rows_are_split_where_there_are_many():
    shares = cut_all([Work("up", (4 * 40 * 8, 896), 3)], units_of(8, 8, 8, 8))
    assert [len(share.span.tiles) for share in shares] == [64] * 4
    assert all(share.span.chunks == range(56) for share in shares)


def test_columns_are_split_where_rows_are_few():
    """26 row tiles are less than a block of 64 lanes: without a cut of columns one unit would work.
    """
    units = units_of(64, 64, 64, 64)
    shares = cut_all([K_PROJ], units)
    assert [share.span.chunks for share in shares] == [
        range(14), range(14, 28), range(28, 42), range(42, 56)]
    assert words_of(units, shares) == [14 * 51] * 4
    # Parts have 256 words, so 32 units are too many.
    shares = cut_all([K_PROJ], units_of(*[64] * 32))
    assert [len(share.span.chunks) for share in shares] == [7] * 8


def test_matrices_with_the_same_input_are_shared_together():
    works = [Work("q", (896, 896), 3), K_PROJ, Work("v", (128, 896), 3)]
    units = units_of(16, 16, 16, 16)
    words = words_of(units, cut_all(works, units))
    assert sum(words) == (12 + 2 + 2) * 56 * 51
    assert max(words) - min(words) < CUT_WORDS
    # Alone, each matrix would leave some units idle at its end.
    alone = np.sum([words_of(units, cut_all([work], units, least=1 << 30)) for work in works], 0)
    assert max(words) <= 0.8 * max(alone)


def test_shares_follow_the_rates():
    units = units_of(8, 8, 8, rates=[4.0, 2.0, 1.0])
    work = Work("up", (70 * 40, 896), 3)
    assert words_of(units, cut_all([work], units)) == [
        pytest.approx(share * 10 * 56 * 51, rel=0.01) for share in (4, 2, 1)]


def test_groups_are_not_cut():
    work = Work("k", (128, 1024), 1, 128, direct=True)
    shares = cut_all([work], units_of(64, 64, 64), least=1)
    assert {share.span.chunks.start % 8 for share in shares} == {0} and len(shares) == 3
    # A row with one scale may be cut anywhere.
    shares = cut_all([Work("k", (128, 1008), 1, 1008)], units_of(64, 64, 64), least=1)
    assert [share.span.chunks.start for share in shares] == [0, 21, 42]


@pytest.mark.parametrize("seed", range(20))
def test_memory_is_never_exceeded(seed):
    rng = np.random.default_rng(seed)
    works = [random_work(rng, f"m{place}") for place in range(3)]
    lanes = [int(rng.choice([1, 2, 4, 8])) for _ in range(5)]
    size = sum(work.nbytes for work in works)
    units = [Unit(f"u{place}", count, 32768, float(rng.uniform(0.1, 5)),
                  int(rng.uniform(0.1, 0.9) * size)) for place, count in enumerate(lanes)]
    shares = cut_all(works, units, least=1)
    if shares is None:
        assert sum(unit.memory for unit in units) < 1.5 * size
        return
    held = [0] * len(units)
    for share in shares:
        held[share.unit] += units[share.unit].nbytes(share.work, share.span)
    assert all(size <= unit.memory for size, unit in zip(held, units, strict=True))
    for work in works:
        assert (covered(work, shares) == 1).all()


def test_a_full_unit_leaves_the_rest_to_the_others():
    work = Work("up", (400, 896), 3)
    units = [Unit("small", 8, 32768, 10.0, 50_000), Unit("large", 8, 32768, 1.0, None)]
    shares = cut_all([work], units)
    assert words_of(units, shares)[0] in range(5500, 50_000 // 8 + 1)
    assert cut_all([work], units[:1]) is None
    assert cut_all([work], units[:1], left=[0]) is None


@pytest.mark.parametrize("change, message", [
    ({"depth": 5}, "depth must be 1..4, not 5"),
    ({"group": 24}, "group must be a multiple of 16 up to 896 for 896 columns, not 24"),
    ({"group": 912}, "group must be a multiple of 16 up to 896 for 896 columns, not 912"),
])
def test_matrices_that_do_not_exist(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Work(**{"name": "k", "shape": (128, 896), "depth": 3} | change)
