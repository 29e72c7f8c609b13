"""Devices whose responses contradict each other."""

import asyncio
from struct import pack

import numpy as np
import pytest

from tritstream.golden.quantize import quantize
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError

from support.peer import Peer
from support.peer_faults import replace_arguments

MATRIX = quantize(np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32), 2)


def failure(fault, at):
    """Return the message with which a product fails if the responses to a request are changed."""
    async def product(device):
        return await device.gemv(await device.prepare(MATRIX), np.ones(16, np.int8))

    peer = Peer(8)
    peer.faults = {at: fault}
    with pytest.raises(DeviceError) as caught:
        asyncio.run(product(Device(peer, retries=0)))
    return str(caught.value)


@pytest.mark.parametrize("words", [0, 34, 36, (1 << 64) - 1])
def test_wrong_word_count_in_done(words):
    done = replace_arguments(-1, 0, 0, pack("<4Q", 100, 0, 0, words))
    assert failure(done, 3).endswith(
        f"(1: DONE counts {8 * words} bytes of words where 280 were sent)")


@pytest.mark.parametrize(("lanes", "max_k"), [(16, 64), (8, 32769), (8, (1 << 32) - 1)])
def test_impossible_sizes(lanes, max_k):
    info = replace_arguments(0, 8, 0, pack("<6I", 1, lanes, 1, max_k, 0, 0))
    assert failure(info, 0) == (f"IDENTIFY: device reports impossible sizes: {lanes} lanes, 1 "
                                f"columns, max K {max_k}")
