import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import pack, unpack
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.layout.folding import Fold, best_fold, fold_tiles, pieces
from tritstream.host.layout.prepare import prepare

from support.host_cases import matrix_of, multiply, vectors
from support.peer import Peer

# Words of a row block: 19, 35, 51, 67 times its groups.
WAYS = [
    (1, 1, None),
    (2, 4, (1, 2)), (2, 5, None),
    (3, 2, (1, 3)), (3, 3, (2, 2)), (3, 4, (2, 2)), (3, 5, (1, 3)), (3, 6, None), (3, 7, None),
    (4, 2, (1, 4)), (4, 3, (2, 2)), (4, 4, (2, 2)), (4, 5, (1, 4)), (4, 6, (1, 4)), (4, 7, None),
]


@pytest.mark.parametrize(("depth", "count", "way"), WAYS)
def test_best_fold_takes_the_fewest_words(depth, count, way):
    fold = best_fold(slice(16, 16 + count), 100, depth, 8, 1)
    assert fold == (way and Fold(*way, count, 80))


@pytest.mark.parametrize(("groups", "folded"), [(7, False), (8, True)])
def test_rows_are_not_folded_if_it_saves_too_little(groups, folded):
    assert bool(best_fold(slice(0, 2), groups, 3, 8, 256)) == folded


def test_fold_tiles_by_hand():
    # One weight of the first row is 13 = 1 + 3 + 9, the next -12 = 0 - 3 - 9, code 5.
    tile = np.zeros((1, 1, 51), np.uint8)
    tile[0, 0, :6] = [1, 1, 1, 0, 2, 2]
    tile[0, 0, 48:] = [2, 1, 0]
    first, second = fold_tiles(tile, 3, Fold(2, 2, 1, 0))[:, 0]
    assert first[:4].tolist() == [1, 1, 0, 2] and second[:4].tolist() == [1, 0, 2, 0]
    assert not first[4:32].any() and not second[4:32].any()
    assert first[32:].tolist() == second[32:].tolist() == [2, 1, 0]


@pytest.mark.parametrize(("depth", "low"), [(2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (4, 3)])
def test_folds_join_to_the_row_sums(depth, low):
    matrix, x = matrix_of(33, 48, depth), vectors(2, 48)
    fold = Fold(low, -(-depth // low), 7, 0)
    tiles = fold_tiles(pack(matrix), depth, fold)
    folded = unpack(tiles, low, (5 * len(tiles), 48), matrix.table)
    np.testing.assert_array_equal(fold.join(gemv(folded, x))[:, :33], gemv(matrix, x))


def test_sums_at_the_limits_join():
    matrix = matrix_of(5, 48, 4)
    fold = Fold(1, 4, 1, 0)
    sums = np.array([[-(1 << 45)] * 20])
    assert fold.join(sums).tolist() == [[-(1 << 45) * 40] * 5]
    assert len(fold_tiles(pack(matrix), 4, fold)) == 4


def test_pieces_cover_every_tile_and_group_once():
    taken = np.zeros((26, 20), int)
    for piece in pieces(26, 20, 3, 8, 128, 64):
        taken[piece.tiles, piece.groups] += 1
        assert (piece.fold is not None) == (piece.tiles.start == 24)
    assert (taken == 1).all()


@pytest.mark.parametrize(("rows", "k", "columns"), [(128, 896, 1), (43, 800, 3), (50, 1600, 2)])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_folded_products(rows, k, columns, depth):
    matrix, x = matrix_of(rows, k, depth), vectors(3, k)
    peer = Peer(columns=columns, max_k=1024)
    (product,), stats = asyncio.run(multiply(Device(peer), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert any(part.fold for part in prepare(matrix, 8, 1024).parts)
    passes = -(-3 // columns)
    assert stats.words == passes * sum(part.stream[..., 0].size
                                       for part in prepare(matrix, 8, 1024).parts)
    assert stats.stream_bytes < passes * prepare(matrix, 8, 1024, fold_words=None).parts[0].nbytes \
        or k > 1024


def test_folded_rows_in_several_frames():
    matrix, x = matrix_of(65, 1600, 3), vectors(1600)
    peer = Peer(max_k=1600)
    (product,), stats = asyncio.run(multiply(Device(peer, frame_bytes=1), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert stats.frames == 3


def test_a_transport_may_disable_folding():
    peer = Peer(max_k=1600)
    peer.fold_words = None
    matrix, x = matrix_of(10, 1600, 3), vectors(1600)
    (product,), stats = asyncio.run(multiply(Device(peer), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert stats.words == 100 * 51


def test_each_device_of_a_group_folds_its_share():
    async def multiply_on_both():
        group = DeviceGroup([Device(Peer(max_k=1600)), Device(Peer(max_k=1600))])
        share = await group.prepare(matrix)
        folds = [part.fold for each in share.shares for part in each.prepared.parts]
        return folds, await group.gemv(share, x)

    matrix, x = matrix_of(50, 1600, 4), vectors(1600)
    folds, (product, stats) = asyncio.run(multiply_on_both())
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert folds == [None, Fold(1, 4, 2, 0)]
    assert stats.words == 100 * (67 + 19)
