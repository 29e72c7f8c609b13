"""Transports: what a subclass must define, default and forwarded capabilities."""

import asyncio
from inspect import isabstract
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.board.matrix_store import Store, StoredPart, StoringTransport
from tritstream.host.board.transport import BoardTransport
from tritstream.host.device import Device
from tritstream.host.errors import DeviceError, TransportError
from tritstream.host.layout.folding import pieces
from tritstream.host.layout.prepare import PreparedMatrix, prepare
from tritstream.host.transports.base import FOLD_WORDS, Stored, Transport
from tritstream.host.transports.native import NativeTransport
from tritstream.host.transports.serial_line import SerialTransport
from tritstream.host.transports.tcp import SocketTransport
from tritstream.host.transports.threaded import ThreadTransport
from tritstream.scripts.assurance.fuzz.tape import Tape
from tritstream.scripts.assurance.soak.disturbed import DisturbedTransport

from support.host_cases import matrix_of, vectors
from support.peer import Peer

STORED = Stored(1 << 20, 100, 7)


@pytest.mark.parametrize("missing", ["send", "recv", "close"])
def test_a_transport_that_lacks_a_method_cannot_be_made(missing):
    methods = {name: getattr(Peer, name) for name in ("send", "recv", "close") if name != missing}
    with pytest.raises(TypeError, match=rf"abstract.*{missing}"):
        type("Incomplete", (Transport,), methods)()


def test_a_storing_transport_needs_a_store():
    methods = {name: getattr(Peer, name) for name in ("send", "recv", "close")}
    with pytest.raises(TypeError, match=r"abstract.*store"):
        type("Storeless", (StoringTransport,), methods)()


@pytest.mark.parametrize("kind", [
    NativeTransport, SerialTransport, SocketTransport, ThreadTransport, BoardTransport,
    DisturbedTransport, Tape, Peer])
def test_every_transport_derives_from_the_base_class(kind):
    assert issubclass(kind, Transport) and not isabstract(kind)


def test_defaults():
    peer = Peer()
    assert (peer.flow_control, peer.fold_words, dict(peer.about)) == (True, FOLD_WORDS, {})
    assert peer.ready() == b""
    assert (SerialTransport.flow_control, BoardTransport.fold_words) == (False, None)


class Capable(Peer):
    """A fake device with other capabilities, and with three bytes that are ready."""

    flow_control = False
    fold_words = 17
    about: ClassVar = {"engine": "none"}

    async def recv(self, count):
        return bytes(count)

    def ready(self):
        return b"abc"


def test_a_thread_forwards_the_capabilities():
    async def receive():
        await thread.send(bytes(64))
        return await thread.recv(2), thread.ready(), thread.ready()

    thread = ThreadTransport(Capable())
    assert (thread.flow_control, thread.fold_words) == (False, 17)
    assert thread.about == Device(thread).about == {"engine": "none"}
    assert asyncio.run(receive()) == (bytes(2), b"abc", b"")
    thread.close()


def test_a_device_folds_as_its_transport_says():
    async def folds(transport):
        device = Device(transport)
        prepared = await device.prepare(matrix)
        await device.close()
        return [part.fold is not None for part in prepared.parts]

    matrix = matrix_of(10, 1600, 3)
    never = Peer(max_k=1600)
    never.fold_words = None
    assert any(asyncio.run(folds(ThreadTransport(Peer(max_k=1600)))))
    assert not any(asyncio.run(folds(ThreadTransport(never))))
    assert len(list(pieces(2, 100, 3, 8, 1600, None))) == 1


@pytest.mark.parametrize("make", [
    lambda: NativeTransport(SimpleNamespace(push=None)),
    lambda: DisturbedTransport(None, [], None),
    lambda: SocketTransport("localhost", 1),
])
def test_a_transport_without_memory_refuses_a_stored_payload(make):
    transport = make()
    with pytest.raises(TransportError) as error:
        asyncio.run(transport.send(STORED))
    assert str(error.value) == (
        f"{type(transport).__name__} leads to no memory that holds the 100 stored bytes of this "
        "request: prepare the matrix for this device")


def stored(matrix):
    """A matrix as it would be in the memory of a board."""
    prepared = prepare(matrix, 8, 64)
    parts = tuple(StoredPart(part.first_group, part.groups, part.blocks, 1 << 20, part.nbytes, 7)
                  for part in prepared.parts)
    return PreparedMatrix(prepared.depth, prepared.shape, 8, prepared.units, prepared.mantissas,
                          parts)


def test_a_device_without_memory_refuses_a_stored_matrix_before_it_sends_any_of_it():
    async def refuse(device):
        await device.info()
        with pytest.raises(DeviceError, match="^the matrix is in the memory of another device, and "
                                              "this one has no memory: prepare the matrix for "
                                              "this device$"):
            await device.gemv(stored(matrix), x)
        return (await device.gemv(await device.prepare(matrix), x))[0]

    matrix, x, peer = matrix_of(40, 64), vectors(64), Peer()
    np.testing.assert_array_equal(asyncio.run(refuse(Device(peer))), gemv(matrix, x))
    assert peer.log == [0, 2, 1, 3]


def test_a_stored_matrix_is_not_stored_again():
    matrix = matrix_of(40, 64)
    store = Store(None)
    store.end = 1 << 22
    with pytest.raises(ValueError, match=r"^the matrix is in a board's memory already; prepare it "
                                         r"with tritstream\.host\.layout\.prepare$"):
        asyncio.run(store.add(stored(matrix), matrix))
