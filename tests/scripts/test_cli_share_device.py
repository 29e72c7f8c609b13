import asyncio
import os
import signal

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.errors import TransportClosed
from tritstream.host.open_device import open_device

from support.cli_helpers import fails
from support.host_cases import matrix_of, multiply, vectors
from support.serving import serving

MATRIX, X = matrix_of(45, 64), vectors(3, 64)


async def product(spec):
    async with open_device(spec) as device:
        return (await device.identify()).lanes, (await multiply(device, MATRIX, X))[0][0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_devices_in_another_process_until_they_are_stopped(number):
    with serving("--device", "sim:lanes=4") as (process, spec):
        for device, lanes in ((spec, 4), (f"{spec},sim:lanes=2", 6)):
            found, sums = asyncio.run(product(device))
            assert found == lanes
            np.testing.assert_array_equal(sums, gemv(MATRIX, X))
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (0, "stopped\n")
    assert err.count("is here") == err.count("is gone") == 2
    assert "Traceback" not in err


def test_a_killed_server_is_named_in_the_error():
    async def kill():
        async with open_device(spec) as device:
            prepared = await device.prepare(matrix, "layer.3")
            await device.gemv(prepared, x)
            os.kill(process.pid, signal.SIGKILL)
            await device.gemv(prepared, ~x)

    matrix, x = matrix_of(600, 64), vectors(64)
    with serving("--device", "sim:lanes=4") as (process, spec), pytest.raises(
            TransportClosed, match=(
                rf"^{spec}: layer\.3: GEMV of row blocks 0\.\.29 \(depth 2, K = 64\): the server "
                "closed the connection: it ended, or has another client; it takes one at a time")):
        asyncio.run(kill())


def test_wrong_options(tmp_path):
    key = tmp_path / "key"
    key.write_bytes(bytes(range(65, 97)))
    assert fails("share-device", "--device", "sim,sim") == (
        "sim,sim: share-device takes one simulated device; start one server for each")
    assert fails("share-device", "--device", "tcp://localhost:1") == (
        "tcp://localhost:1: share-device takes one simulated device; start one server for each")
    for listen in ("localhost", "localhost:", ":80", "localhost:99999", "localhost:-1"):
        assert fails("share-device", "--listen", listen) == (
            f"{listen}: listen must be HOST:PORT, such as 127.0.0.1:7354")
    assert fails("share-device", "--listen", "192.0.2.1:7354", "--key-file", key) == (
        "cannot listen on 192.0.2.1 port 7354 (Cannot assign requested address); choose another "
        "with --listen")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:7354"])
def test_other_machines_need_a_key(tmp_path, listen):
    assert fails("share-device", "--listen", listen) == (
        f"{listen}: other machines would reach this device without a key; give --key-file FILE, or "
        "listen on 127.0.0.1")
    assert fails("board", "--listen", listen) == (
        f"{listen}: other machines would reach this board, whose protocol has no key; listen on "
        "127.0.0.1")
    assert fails("share-device", "--listen", listen, "--key-file", tmp_path / "none") == (
        f"{tmp_path / 'none'}: cannot read the key (No such file or directory)")
    short = tmp_path / "short"
    short.write_text(" 15 bytes of key \n")
    assert fails("share-device", "--listen", listen, "--key-file", short) == (
        f"{short}: a key has at least 16 bytes, not 15; make one with: python -c 'import secrets; "
        "print(secrets.token_hex(32))'")
