import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError

from support.host_cases import GEMV, matrix_of, multiply, vectors
from support.peer import Peer
from support.peer_faults import corrupt, refuse


class Line(Peer):
    """A peer without flow control, and how many bytes of answers were waiting at each request."""

    flow_control = False

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.waiting = []

    async def send(self, data):
        self.waiting.append(len(self.out))
        await super().send(data)


def check(peer, matrix, columns=1, **options):
    """The product equals golden's; its stats."""
    x = vectors(columns, matrix.columns)
    (product,), stats = asyncio.run(multiply(Device(peer, **options), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    return stats


@pytest.mark.parametrize("k, columns, due", [
    (32, 1, [2, 2, 1]), (48, 1, [5]),       # 38 and 57 words a block for 44 of results
    (64, 1, [5]), (64, 2, [2, 2, 1]),
])
def test_results_never_pile_up(k, columns, due):
    matrix = matrix_of(5 * 40, k, 1)
    for peer, blocks in ((Peer(columns=columns), [5]), (Line(columns=columns), due)):
        check(peer, matrix, columns)
        assert [r.arg1 for r in peer.requests if r.opcode == GEMV] == blocks


@pytest.mark.parametrize("fault", [corrupt(1, 30), refuse(6), refuse(1)])
def test_nothing_is_sent_after_a_failure_before_silence(fault):
    peer = Line()
    peer.faults = {3: fault}
    assert check(peer, matrix_of(400, 64)).retries == 1
    assert not any(peer.waiting)


def test_a_peer_with_flow_control_is_not_waited_for():
    peer = Peer()
    peer.faults = {3: corrupt(1, 30)}
    received = []
    take = peer.recv

    async def recv(count):
        received.append(count)
        return await take(count)

    peer.recv = recv
    assert check(peer, matrix_of(400, 64)).retries == 1
    assert min(received) > 1


def test_silence_is_waited_for_after_the_last_try_too():
    peer = Line()
    peer.faults = {3: corrupt(1, 30)}
    with pytest.raises(DeviceError, match="gave up after 1 try"):
        check(peer, matrix_of(400, 64), retries=0)
    assert not peer.out
