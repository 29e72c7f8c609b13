import asyncio

import numpy as np
import pytest

from tritstream.golden.tiles import pack
from tritstream.host.device import Device
from tritstream.host.layout.prepare import prepare

from support.host_cases import matrix_of
from support.peer import Peer


@pytest.mark.parametrize("max_k", [15, 0, -16])
def test_wrong_max_k(max_k):
    with pytest.raises(ValueError, match=rf"^max_k must be at least 16, not {max_k}$"):
        prepare(matrix_of(5, 16), 8, max_k)


@pytest.mark.parametrize(("change", "message"), [
    ({"depth": 5}, r"^depth must be 1\.\.4, not 5$"),
    ({"shape": (41,)}, r"^shape must be two positive integers, not \(41,\)$"),
    ({"shape": (0, 50)}, r"^shape must be two positive integers, not \(0, 50\)$"),
    ({"depth": 2}, r"^tiles of a 41 x 50 matrix of depth 2 must be uint8 \(9, 4, 35\), not uint8 "
                   r"\(9, 4, 51\)$"),
    ({"shape": (46, 50)}, r"^tiles of a 46 x 50 matrix of depth 3 must be uint8 \(10, 4, 51\), "
                          r"not uint8 \(9, 4, 51\)$"),
    ({"shape": (41, 65)}, r"^tiles of a 41 x 65 matrix of depth 3 must be uint8 \(9, 5, 51\), not "
                          r"uint8 \(9, 4, 51\)$"),
    ({"tiles": np.zeros((9, 4, 51), np.int8)}, r"^tiles of a 41 x 50 matrix of depth 3 must be "
                                               r"uint8 \(9, 4, 51\), not int8 \(9, 4, 51\)$"),
    ({"table": np.ones(26, np.float32)}, r"^table must be float32 \(27,\), not float32 "
                                           r"\(26,\)$"),
])
def test_wrong_tiles(change, message):
    matrix = matrix_of(41, 50, 3)
    stored = {"tiles": pack(matrix), "table": matrix.table, "depth": 3, "shape": (41, 50)} | change
    with pytest.raises(ValueError, match=message):
        prepare((stored["tiles"], stored["table"], stored["depth"], stored["shape"]), 8, 64)


@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_streams_of_all_parts_contain_the_tiles_in_word_order(lanes):
    matrix = matrix_of(41, 100, 3)
    tiles, prepared = pack(matrix), prepare(matrix, lanes, 40)
    assert [(part.first_group, part.groups) for part in prepared.parts] == [
        (0, 2), (2, 2), (4, 2), (6, 1)]
    assert prepared.max_k == 32
    stream = np.concatenate([part.stream for part in prepared.parts], axis=1)
    for tile in range(9):
        np.testing.assert_array_equal(stream[tile // lanes, :, :, tile % lanes], tiles[tile])
    assert all(part.stream.flags.c_contiguous for part in prepared.parts)


@pytest.mark.parametrize(("limit", "cuts"), [
    (1, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]),
    (559, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]),
    (560, [(0, 2), (2, 2), (4, 1)]),
    (1399, [(0, 4), (4, 1)]),
    (1400, [(0, 5)]),
])
def test_cuts_are_as_long_as_the_limit_allows(limit, cuts):
    part, = prepare(matrix_of(41 * 4, 16, 2), 8, 64).parts
    assert part.stream.nbytes == 1400
    assert list(part.cuts(limit)) == cuts
    assert b"".join(part.payload(*cut) for cut in cuts) == part.stream.tobytes()


def test_prepare_from_tiles():
    async def prepare_both(device, matrix):
        stored = pack(matrix), matrix.table, matrix.depth, matrix.shape
        return await device.prepare(matrix), await device.prepare(stored)

    ours, stored = asyncio.run(prepare_both(Device(Peer(max_k=32)), matrix_of(41, 50, 3)))
    assert len(ours.parts) == len(stored.parts) == 2
    for part, other in zip(ours.parts, stored.parts, strict=True):
        assert part.first_group == other.first_group
        np.testing.assert_array_equal(part.stream, other.stream)
    assert (ours.shape, ours.depth, ours.lanes) == (stored.shape, stored.depth, stored.lanes)
    np.testing.assert_array_equal(ours.mantissas, stored.mantissas)
