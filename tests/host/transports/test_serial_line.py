import asyncio
import os
import re
import select
import socket
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from serial import Serial
from serial.rfc2217 import PortManager
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from tritstream.golden.gemv import gemv
from tritstream.host.device import Device
from tritstream.host.errors import TransportClosed, TransportTimeout
from tritstream.host.open_device import open_device
from tritstream.host.transports.serial_line import SerialTransport

from support.host_cases import matrix_of, multiply, vectors
from support.serial_board import Board, peer_of

BAUD = 3_000_000


@pytest.fixture
def board():
    board = Board()
    yield board
    if board.master is not None:
        board.unplug()


@pytest.fixture
def transport(board):
    transport = SerialTransport(board.port, BAUD, 300)
    yield transport
    transport.close()


@pytest.fixture
def impatient(transport):
    """The transport, which soon finds silence."""
    transport._timeout = 0.25
    return transport


def test_products_over_a_port(board, transport):
    peer_of(board, lanes=4, columns=2)
    matrix, x = matrix_of(500, 64, 3), vectors(3, 64)
    (product,), stats = asyncio.run(multiply(Device(transport), matrix, x))
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert stats.retries == 0


def test_responses_are_read_while_it_sends(board, transport):

    board.answer(lambda data: data * 3)
    request = np.random.default_rng(0).bytes(1 << 16)
    asyncio.run(transport.send(request))
    answers = asyncio.run(transport.recv(3 * len(request)))
    assert len(answers) == 3 * len(request)
    assert np.array_equal(np.bincount(np.frombuffer(answers, np.uint8)),
                          3 * np.bincount(np.frombuffer(request, np.uint8)))


def test_bytes_before_silence_are_kept(board, impatient):
    transport = impatient
    os.write(board.master, b"abc")
    with pytest.raises(TransportTimeout, match=rf"^{board.port}: silent for 0.25 s$"):
        asyncio.run(transport.recv(5))
    transport._timeout = 300
    os.write(board.master, b"defg")
    assert asyncio.run(transport.recv(6)) == b"abcdef"
    assert asyncio.run(transport.recv(1)) == b"g"


def test_a_port_that_takes_nothing_is_silent(board, impatient):
    with pytest.raises(TransportTimeout, match=rf"^{board.port}: took nothing for 0.25 s$"):
        asyncio.run(impatient.send(bytes(1 << 16)))


@pytest.mark.parametrize("use", [lambda t: t.send(bytes(64)), lambda t: t.recv(1)])
def test_unplugged(board, transport, use):
    board.unplug()
    with pytest.raises(TransportClosed, match=rf"^{board.port}: the port is gone \(.+\)$"):
        asyncio.run(use(transport))


def test_closed(board, transport):
    transport.close()
    with pytest.raises(TransportClosed, match=rf"^{board.port}: the port is gone \(.*not open\)$"):
        asyncio.run(transport.recv(1))


def test_a_port_is_locked(board, transport):
    with pytest.raises(TransportClosed, match=rf"^{board.port}: cannot open it: another program "
                                              r"uses it$"):
        SerialTransport(board.port, BAUD)


def test_no_such_port():
    with pytest.raises(TransportClosed, match=r"^/dev/ttyNONE: cannot open it: no such port; "
                                              r"`python -m serial.tools.list_ports` lists those "
                                              r"there are$"):
        SerialTransport("/dev/ttyNONE", BAUD)


@pytest.mark.parametrize("baud", [0, -9600, 9600.0, "9600"])
def test_wrong_baud(board, baud):
    with pytest.raises(ValueError, match=rf"^{board.port}: baud must be a positive integer, not "):
        SerialTransport(board.port, baud)


@pytest.mark.parametrize("baud, timeout, idle", [(3_000_000, 0.02, 0.02), (1200, 0.5, 0.533)])
def test_timeout_shorter_than_the_device_waits(board, baud, timeout, idle):
    with pytest.raises(ValueError, match=rf"^{board.port}: timeout must be longer than the {idle} "
                                         rf"s of silence after which a device gives up a frame, "
                                         rf"not {timeout}$"):
        SerialTransport(board.port, baud, timeout)


def multiply_over(spec):
    """Compare a product on the device ``spec`` with golden's."""
    async def use():
        async with open_device(spec) as device:
            return await multiply(device, matrix, x)

    matrix, x = matrix_of(500, 64, 3), vectors(3, 64)
    (product,), stats = asyncio.run(use())
    np.testing.assert_array_equal(product, gemv(matrix, x))
    assert stats.retries == 0


def test_a_port_by_name(board):
    peer_of(board, lanes=4, columns=2)
    multiply_over(f"serial:{board.port},timeout=300")


class Network:
    """A serial port behind a TCP port; ``serve`` forwards the bytes of a connection."""

    def __init__(self, port, serve):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._port, self._serve = port, serve
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._thread.join()
        self._listener.close()

    def _run(self):
        client, _ = self._listener.accept()
        with client, Serial(self._port, BAUD, timeout=0) as port:
            self._serve(client, port)


def exchange(client, port, to_port=bytes, to_client=bytes):
    """Forward bytes both ways until the client is gone."""
    while True:
        ready, _, _ = select.select([client, port], [], [])
        if client in ready:
            data = client.recv(4096)
            if not data:
                return
            rest = to_port(data)
            while rest:
                rest = rest[port.write(rest):]
        if port in ready:
            client.sendall(to_client(port.read(4096)))


def serve_rfc2217(client, port):
    # A pseudo-terminal has no modem lines to ask for.
    line = SimpleNamespace(cts=True, dsr=True, ri=False, cd=True, baudrate=BAUD, bytesize=8,
                           parity="N", stopbits=1, reset_input_buffer=lambda: None,
                           reset_output_buffer=lambda: None)
    manager = PortManager(line, SimpleNamespace(write=client.sendall))
    exchange(client, port, lambda data: b"".join(manager.filter(data)),
             lambda data: b"".join(manager.escape(data)))


# pyserial starts its thread by methods that Python has deprecated.
@pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")
@pytest.mark.parametrize(("scheme", "serve", "baud"), [
    ("socket", exchange, 3_000_000), ("rfc2217", serve_rfc2217, 115200)])
def test_a_port_of_another_machine(board, scheme, serve, baud):
    peer_of(board, lanes=4, columns=2)
    with Network(board.port, serve) as network:
        multiply_over(f"serial:{scheme}://{network.address},baud={baud},timeout=300")


def test_a_port_by_its_description(board, monkeypatch):
    other, found = (ListPortInfo(name, skip_link_detection=True)
                    for name in ("/dev/ttyNONE", board.port))
    found.hwid = "USB VID:PID=0403:6010"
    monkeypatch.setattr(list_ports, "comports", lambda *_: [other, found])
    peer_of(board, lanes=4, columns=2)
    multiply_over("serial:hwgrep://0403:6010,timeout=300")


@pytest.mark.parametrize(("port", "reason"), [
    ("socket://127.0.0.1:1", "Could not open port socket://127.0.0.1:1: .*refused"),
    ("socket://127.0.0.1", "Could not open port socket://127.0.0.1: .*"),
    ("hwgrep://no-such-device", "no ports found matching regexp 'no-such-device'"),
    ("hwgrep://(", ".*unterminated subpattern.*"),
    ("ftp://127.0.0.1", "invalid URL, protocol 'ftp' not known")])
def test_a_url_that_leads_nowhere(port, reason):
    with pytest.raises(TransportClosed, match=f"^{re.escape(port)}: cannot open it: {reason}"):
        open_device(f"serial:{port}")
