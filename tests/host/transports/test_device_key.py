"""Device servers with a key: who proves to know it, and who is sent away."""

import asyncio

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.errors import TransportClosed
from tritstream.host.open_device import open_device
from tritstream.host.transports.device_key import GREETING

from support.host_cases import matrix_of, multiply, vectors
from support.served_device import IDENTIFY, listening, run_served

MATRIX, X = matrix_of(45, 64), vectors(3, 64)
KEY = b"a key of some length"


@pytest.fixture
def key(tmp_path):
    """File with :data:`KEY`, between white space."""
    path = tmp_path / "key"
    path.write_bytes(b" " + KEY + b"\n")
    return path


def test_products_with_a_key(key):
    async def use(spec):
        async with open_device(f"{spec},key={key}") as device:
            return await multiply(device, MATRIX, X)

    (product,), _ = run_served(use, log := [], key=KEY)
    np.testing.assert_array_equal(product, gemv(MATRIX, X))
    assert log[0].endswith(" is here")


@pytest.mark.parametrize("mine, reason", [
    (None, r"the server needs a key; write tcp://127\.0\.0\.1:\d+,key=FILE"),
    (KEY[:-1] + b"x", "the server has another key; give the key with which the server was started"),
])
def test_a_client_without_the_key_is_sent_away(key, mine, reason):
    async def use(spec):
        if mine:
            key.write_bytes(mine)
        async with open_device(f"{spec},key={key}" if mine else spec) as device:
            with pytest.raises(TransportClosed, match=(
                    rf"IDENTIFY: 127\.0\.0\.1 port \d+: {reason}")):
                await device.identify()
        key.write_bytes(KEY)
        async with open_device(f"{spec},key={key}") as device:
            return await multiply(device, MATRIX, X)

    (product,), _ = run_served(use, log := [], key=KEY)
    np.testing.assert_array_equal(product, gemv(MATRIX, X))
    assert log[0].endswith("sent away: it does not know the key")


def test_a_server_without_the_key(key):
    """One that asks for none, one that greets in another way, one that knows another key."""
    async def silent(reader, writer):
        await reader.read()

    async def other(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await reader.read()

    async def liar(reader, writer):
        writer.write(GREETING + bytes(32))
        await reader.readexactly(64)
        writer.write(bytes(32))
        await reader.read()

    async def mirror(reader, writer):
        """Return the client's own proof."""
        writer.write(GREETING + bytes(32))
        writer.write((await reader.readexactly(64))[32:])
        await reader.read()

    async def fail(answer):
        async with listening(answer, 300 if answer in (liar, mirror) else 0.2, KEY) as transport:
            with pytest.raises(TransportClosed) as error:
                await transport.send(IDENTIFY)
            return str(error.value).partition(": ")[2].partition(";")[0]

    assert [asyncio.run(fail(answer)) for answer in (silent, other, liar, mirror)] == [
        "the server asks for no key", "the server asks for no key",
        *["the server does not know the key"] * 2]


def test_a_proof_cannot_be_used_twice():
    """What a client sent is another connection's; so is a challenge sent back to the server."""
    async def replay(spec):
        host, port = spec.removeprefix("tcp://").split(":")
        client, server = await asyncio.open_connection(host, port)
        greeting = await client.readexactly(48)
        for proof in (bytes(64), greeting[16:] * 2):
            again, writer = await asyncio.open_connection(host, port)
            await again.readexactly(48)
            writer.write(proof)
            assert await again.read() == b""
            writer.close()
        server.close()

    run_served(replay, log := [], key=KEY)
    assert sum("does not know the key" in line for line in log) >= 2
