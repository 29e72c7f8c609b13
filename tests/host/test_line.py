import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError
from tritstream.host.protocol import exchange

from support.host_cases import GEMV, matrix_of, multiply, vectors
from support.peer import Peer
from support.peer_faults import corrupt, refuse


class Line(Peer):
    """A fake device without flow control; counts response bytes that wait at each request."""

    flow_control = False

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.waiting = []

    async def send(self, data):
        self.waiting.append(len(self.out))
        await super().send(data)


def check(peer, matrix, columns=1, **options):
    """Check that the product equals golden's; return its stats."""
    x = vectors(columns, matrix.columns)
    (product,), stats = asyncio.run(multiply(Device(peer, **options), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    return stats


@pytest.mark.parametrize("k, columns, on_a_line", [
    (32, 1, [2, 2, 1]), (48, 1, [5]),       # 38 and 57 words a block for 44 of results
    (64, 1, [5]), (64, 2, [2, 2, 1]),
])
def test_results_never_pile_up(k, columns, on_a_line):
    matrix = matrix_of(5 * 40, k, 1)
    for peer, blocks in ((Peer(columns=columns), [5]), (Line(columns=columns), on_a_line)):
        check(peer, matrix, columns)
        assert [r.arg1 for r in peer.requests if r.opcode == GEMV] == blocks


@pytest.mark.parametrize("fault", [corrupt(1, 30), refuse(6), refuse(1)])
def test_nothing_is_sent_after_a_failure_before_silence(fault):
    peer = Line()
    peer.faults = {3: fault}
    assert check(peer, matrix_of(400, 64)).retries == 1
    assert not any(peer.waiting)


def test_with_flow_control_the_driver_does_not_wait_for_silence():
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


def test_the_driver_waits_for_silence_after_the_last_attempt_too():
    peer = Line()
    peer.faults = {3: corrupt(1, 30)}
    with pytest.raises(DeviceError, match="gave up after 1 try"):
        check(peer, matrix_of(400, 64), retries=0)
    assert not peer.out


class Noisy(Line):
    """A line that never falls silent."""

    noise = 0

    async def recv(self, count):
        if count > 1:
            return await super().recv(count)
        self.noise += 1
        return b"?"


def test_a_line_that_never_falls_silent_is_used_again(monkeypatch):
    monkeypatch.setattr(exchange, "_SETTLE_LIMIT", 50)
    peer = Noisy()
    peer.faults = {3: corrupt(1, 30)}
    assert check(peer, matrix_of(400, 64)).retries == 1
    assert peer.noise == 50
