"""Fake device for the driver's tests: the reference model as a transport that can misbehave.

The model and the frames share no code with the driver.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import pack

from tritstream.host.errors import TransportClosed, TransportTimeout
from tritstream.host.transports.base import Transport
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.assurance.device_model import DeviceModel

from support.frames import build_frame

__all__ = ["Fault", "Peer", "Request"]

INFO, DONE, ERROR = 0x80, 0x83, 0xff


@dataclass
class Request:
    """A frame whose header was valid."""

    opcode: int
    sequence: int
    arg0: int
    arg1: int
    payload: bytes


#: From a peer, a request and the frames that answer it to the frames that are sent.
Fault = Callable[["Peer", Request, list[bytes]], list[bytes]]


class Peer(Transport):
    """A transport with a fake device at its other end.

    Members
    -------
    lanes, columns, max_k, version, build_id : int
        Values in INFO; a test may change them later, so that the device lies.
    requests : list of Request
        Frames whose header was valid, in order.
    faults : dict
        Function that changes the response frames of a request, by index in ``requests``.
    sent : list
        Buffers given to :meth:`send`.
    flips, losses : set of int
        Offsets, in everything sent, of bytes that are inverted or lost on the way.
    errors : list of int
        Codes of the ERRORs that the device itself sent.
    out : bytearray
        Response bytes not yet received.
    silent, closed : bool
        Send no response from now on; be unplugged.
    eager : bool
        Whether bytes that have come are given without being awaited.
    """

    eager = False

    def __init__(self, lanes=8, columns=1, max_k=64, version=1, build_id=77):
        self.lanes, self.columns, self.max_k = lanes, columns, max_k
        self.version, self.build_id = version, build_id
        self.requests, self.faults, self.sent, self.errors = [], {}, [], []
        self.flips, self.losses = set(), set()
        self.out = bytearray()
        self.silent = self.closed = False
        self._model, self._taken = DeviceModel(DeviceConfig(lanes, columns, max_k)), 0

    @property
    def log(self):
        """Opcodes of the requests so far."""
        return [request.opcode for request in self.requests]

    def forget(self):
        """Lose activations and scales."""
        self._model.forget()

    async def send(self, data):
        if self.closed:
            raise TransportClosed("the peer was unplugged")
        assert len(data) > 0 and len(data) % 64 == 0
        self.sent.append(data)
        arrived = bytes(
            byte ^ 0xff if offset in self.flips else byte
            for offset, byte in enumerate(bytes(data), self._taken) if offset not in self.losses)
        self._taken += len(data)
        for exchange in self._model.exchanges(arrived):
            if self.closed:             # since the exchange before
                raise TransportClosed("the peer was unplugged")
            self._take(exchange)

    async def recv(self, count):
        if self.closed:
            raise TransportClosed("the peer was unplugged")
        if len(self.out) < count:
            raise TransportTimeout("no answer within 1 s")
        data = bytes(self.out[:count])
        del self.out[:count]
        return data

    def ready(self):
        data = bytes(self.out) if self.eager else b""
        del self.out[:len(data)]
        return data

    def close(self):
        """Do nothing."""

    def answer(self, request, opcode, arg0=0, arg1=0, payload=b""):
        """Return a response frame to a request."""
        return build_frame(self.lanes, opcode, request.sequence, arg0, arg1, payload)

    def error(self, request, code):
        """Return an ERROR frame that refuses a request."""
        return self.answer(request, 0xff, code, request.opcode)

    def _take(self, exchange):
        """Send the responses to a request, after a fault of the test has changed them."""
        self.errors += [one.arg0 for one in exchange.responses if one.opcode == ERROR]
        frames = [self._frame(response) for response in exchange.responses]
        if exchange.header:
            *fields, _ = exchange.header
            request = Request(*fields, exchange.payload)
            fault = self.faults.get(len(self.requests))
            self.requests.append(request)
            if fault:
                frames = fault(self, request, frames)
        if not self.silent:
            self.out += b"".join(frames)

    def _frame(self, response):
        """Bytes of a response, with numbers that the model does not know."""
        arg0, payload = response.arg0, response.content(self._taken)
        if response.opcode == DONE:
            payload = response.content(response.counts[0] + 20, (3, 1))
        if response.opcode == INFO:
            arg0 = self.lanes
            payload = pack("<6I", self.version, self.lanes, self.columns, self.max_k, 0,
                           self.build_id)
        return build_frame(self.lanes, response.opcode, response.sequence, arg0, response.arg1,
                           payload)
