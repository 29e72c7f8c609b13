"""Matrices with groups of any length and direct scales, streamed to a device."""

import asyncio

import ml_dtypes
import numpy as np
import pytest

from tritstream.golden.gemv import gemv, results
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.packed_matrix import packed_matrix
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.errors import DeviceError
from tritstream.host.layout.cost import gemv_cost
from tritstream.host.layout.folding import CODES, ScaleWords
from tritstream.host.layout.prepare import prepare
from tritstream.host.layout.stored import fingerprint

from support.golden_cases import direct_matrix, integer_matrix
from support.host_cases import ACTIVATIONS, GEMV, IDENTIFY, SCALES, multiply, vectors
from support.peer import Peer

CASES = {
    "direct 32": direct_matrix(57, 100, 1, 32),
    "direct 128": direct_matrix(57, 300, 2, 128, ml_dtypes.bfloat16),
    "direct 256 at d = 3": direct_matrix(43, 512, 3, 256, np.float32),
    "direct 16 at d = 4": direct_matrix(12, 70, 4, 16),
    "inverse": direct_matrix(21, 200, 1, 64, inverse=True),
    "single": direct_matrix(57, 1500, 1, 1504, single=True),
    "a scale per row": direct_matrix(40, 300, 2, 304, inverse=True),
    "coded 64": integer_matrix(61, 200, 2, group=64),
    "coded row": integer_matrix(61, 200, 3, group=208),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("lanes", [1, 2, 8, 16, 64])
def test_products_equal_golden(lanes, name):
    matrix, peer = CASES[name], Peer(lanes, columns=2, max_k=2048, version=2)
    x = vectors(3, matrix.columns)
    (found, alone), stats = asyncio.run(multiply(Device(peer), matrix, x, x[1]))
    np.testing.assert_array_equal(found, gemv(matrix, x))
    np.testing.assert_array_equal(alone, gemv(matrix, x[1]))
    prepared = prepare(packed_matrix(matrix), lanes, 2048)
    assert (prepared.units == matrix.scales.units).all()
    cost = gemv_cost(matrix.shape, matrix.depth, lanes, max_k=2048, scales=prepared.scales)
    assert stats.words == cost.words == sum(part.nbytes for part in prepared.parts) // lanes
    wanted = results(gemv(matrix, x[0]), matrix.scales.units, matrix.depth, 0.5)
    assert results(found[0], prepared.units, matrix.depth, 0.5).tobytes() == wanted.tobytes()


@pytest.mark.parametrize(("name", "words"), [
    ("direct 32", ScaleWords(32, True)), ("direct 128", ScaleWords(128, True)),
    # 512 columns are eight groups of 64, the most at depth 3.
    ("direct 256 at d = 3", ScaleWords(64, True)),
    # One scale per row: the device multiplies by nothing.
    ("single", ScaleWords(1008, False)), ("a scale per row", ScaleWords(240, False)),
    ("coded 64", ScaleWords(64, False)), ("coded row", ScaleWords(64, False)),
])
def test_groups_of_the_device(name, words):
    matrix = CASES[name]
    prepared = prepare(matrix, 8, 2048, fold_words=None)
    assert prepared.scales == words
    groups = -(-matrix.columns // words.columns)
    each = 10 if words.direct else 3
    blocks = -(-matrix.rows // 40)
    padded = -(-matrix.columns // 16) * 16
    assert prepared.parts[0].nbytes == 8 * blocks * (padded * matrix.depth + each * groups)


@pytest.mark.parametrize(("columns", "bits"), [(1280, 1.725), (2560, 1.725)])
def test_stored_bits_of_the_stream(columns, bits):
    matrix = direct_matrix(40, columns, 1, 128)
    part, = prepare(matrix, 8, 2560, fold_words=None).parts
    assert 8 * part.nbytes / (40 * columns) == bits


def test_direct_scales_need_no_table_and_do_not_disturb_it():
    async def both(device, x):
        coded, direct = integer_matrix(40, 64, 2), direct_matrix(40, 64, 1, 32)
        first = await device.prepare(coded)
        found = [(await device.gemv(each, x))[0]
                 for each in (first, await device.prepare(direct), first)]
        return found, [gemv(each, x) for each in (coded, direct, coded)]

    peer = Peer(version=2)
    found, wanted = asyncio.run(both(Device(peer), vectors(64)))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert peer.log == [IDENTIFY, SCALES, ACTIVATIONS, GEMV, GEMV, GEMV]
    assert [request.arg1 for request in peer.requests[3:]] == [1, 1 | 1 << 24 | 1 << 31, 1]


@pytest.mark.parametrize(("max_k", "groups"), [(128, [128] * 3 + [16]), (96, [64] * 6 + [16])])
def test_parts_of_a_wide_matrix_end_with_a_group(max_k, groups):
    matrix, x = direct_matrix(45, 400, 1, 128), vectors(400)
    peer = Peer(max_k=max_k, version=2)
    (found,), _ = asyncio.run(multiply(Device(peer), matrix, x))
    np.testing.assert_array_equal(found, gemv(matrix, x))
    parts = prepare(matrix, 8, max_k, fold_words=None).parts
    assert [16 * part.groups for part in parts] == groups


@pytest.mark.parametrize("name", ["direct 128", "direct 256 at d = 3", "coded row"])
def test_folded_rows(name):
    matrix, x = CASES[name], vectors(CASES[name].columns)
    prepared = prepare(matrix, 64, 2048, fold_words=1)
    assert any(part.fold for part in prepared.parts)
    device = Device(Peer(64, max_k=2048, version=2))

    async def run():
        return (await device.gemv(prepared, x))[0]

    np.testing.assert_array_equal(asyncio.run(run()), gemv(matrix, x))


def test_a_group_of_devices():
    matrix = CASES["direct 128"]
    peers = [Peer(lanes, max_k=512, version=2) for lanes in (4, 2)]

    async def run(x):
        group = DeviceGroup([Device(peer) for peer in peers])
        return (await group.gemv(await group.prepare(matrix), x))[0]

    x = vectors(matrix.columns)
    np.testing.assert_array_equal(asyncio.run(run(x)), gemv(matrix, x))
    assert all(peer.log.count(GEMV) for peer in peers)


@pytest.mark.parametrize(("name", "kind"), [
    ("direct 32", "direct scales of 32"), ("coded 64", "coded scales of 64"),
    ("single", "coded scales of 1008")])
def test_a_device_of_version_1_is_refused(name, kind):
    peer = Peer(max_k=2048, version=1)
    with pytest.raises(DeviceError, match=(
            "^device speaks protocol version 1, which has coded scales of 16 columns only, not "
            f"{kind}: load gateware of this release$")):
        asyncio.run(multiply(Device(peer), CASES[name], vectors(CASES[name].columns)))
    assert peer.log == [IDENTIFY]


def test_a_device_of_version_1_takes_groups_of_16_with_codes():
    matrix, x = integer_matrix(41, 64, 2), vectors(64)
    (found,), _ = asyncio.run(multiply(Device(Peer(version=1)), matrix, x))
    np.testing.assert_array_equal(found, gemv(matrix, x))
    assert prepare(matrix, 8, 64).scales == CODES


def test_fingerprints_differ_by_what_determines_the_products():
    base = direct_matrix(12, 64, 1, 32)
    others = [base, direct_matrix(12, 64, 1, 32, inverse=True),
              direct_matrix(12, 64, 1, 32, seed=1), integer_matrix(12, 64, 1, group=32),
              integer_matrix(12, 64, 1, group=64),
              TritMatrix(1, (12, 64), base.q, np.zeros((12, 2), np.uint8),
                         np.ones(27, np.float32), group=32)]
    assert len({fingerprint(packed_matrix(each)) for each in others}) == len(others)
    again = direct_matrix(12, 64, 1, 32)
    assert fingerprint(packed_matrix(base)) == fingerprint(packed_matrix(again))
