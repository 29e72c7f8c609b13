import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError
from tritstream.host.transports.native import NativeTransport
from tritstream.sim.native import SimulationIdle

from support.host_cases import matrix_of, multiply, run_alone, vectors
from support.peer import Peer


class Simulated:
    """A fake device with the methods of a simulated one."""

    def __init__(self, peer):
        self.peer = peer

    def push(self, data):
        run_alone(self.peer.send(data))

    def pull(self, count):
        if len(self.peer.out) < count:
            raise SimulationIdle("quiet for 1000 cycles")
        return run_alone(self.peer.recv(count))

    def ready(self):
        return self.peer.ready()


def test_native_transport():
    peer = Peer()
    matrix, x = matrix_of(40, 64), vectors(64)
    (product,), _ = asyncio.run(
        multiply(Device(NativeTransport(Simulated(peer))), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))


def test_native_transport_silence():
    peer = Peer()
    peer.silent = True
    with pytest.raises(DeviceError, match=r"^IDENTIFY: gave up after 1 try \(1: quiet for 1000 "
                                          r"cycles\)$"):
        asyncio.run(Device(NativeTransport(Simulated(peer)), retries=0).identify())
