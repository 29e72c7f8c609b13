"""Sessions on devices: a right one, one that sends no more than it must, and wrong ones."""

import asyncio
import json

import pytest

from tritstream.host.errors import TransportTimeout
from tritstream.host.transports.base import Transport
from tritstream.scripts.assurance.vectors import vectors
from tritstream.scripts.assurance.vectors.replay import replay
from tritstream.scripts.assurance.vectors.vector_set import sessions

from conformance.device import Device
from support.serving import serving

ALL = {"basics", "errors", "hunts", "products-d2", "columns-d2"}


class ByDocument(Transport):
    """A transport to the implementation of the document.

    ``change`` gets all answers to a session; not the first answer, which tells sizes.
    """

    def __init__(self, device, change=lambda answers: answers):
        self._device, self._out, self._change, self._known = device, b"", change, False

    async def send(self, data):
        answers = self._device.feed(data)
        self._out += self._change(answers) if self._known else answers
        self._known = self._known or bool(answers)

    async def recv(self, count):
        if len(self._out) < count:
            raise TransportTimeout("silent for 1 s")
        data, self._out = self._out[:count], self._out[count:]
        return data

    def close(self):
        pass


class Reluctant(Device):
    """Sends no RESULT before it knows that a GEMV is right."""

    def _conclude(self, code, sequence, opcode, arg0=0):
        if code and opcode == 3:
            # The output of a frame is at the end, after the output of other frames.
            while self._out[-self._frame_bytes():][2:3] == b"\x82":
                del self._out[-self._frame_bytes():]
        super()._conclude(code, sequence, opcode, arg0)

    def _frame_bytes(self):
        return sum(count + -count % self.lanes for count in (20, 40 * self.lanes, 4))


def play(transport, depths=(2,)):
    names = []
    report = asyncio.run(replay(transport, depths, lambda count, name: names.append(name)))
    assert names == list(report["sessions"])
    return report


@pytest.mark.parametrize("lanes", [1, 4, 32])
def test_the_document_passes(lanes):
    report = play(ByDocument(Device(lanes, 2)))
    assert report["sessions"] == dict.fromkeys(sessions(lanes, [2]))
    assert report["left_out"] == {}
    assert report["device"]["lanes"] == lanes


@pytest.mark.parametrize("lanes", [2, 16])
def test_results_of_refused_products_may_be_missing(lanes):
    sent = []
    transport = ByDocument(Reluctant(lanes, 2), lambda data: sent.append(data) or data)
    assert set(play(transport)["sessions"].values()) == {None}
    assert sum(map(len, sent)) < sum(len(make().answers) for make in sessions(lanes, [2]).values())


def test_sessions_that_exceed_a_device_are_left_out():
    report = play(ByDocument(Device(8, 1, 32)))
    assert report["sessions"] == {}
    assert report["left_out"]["basics"] == "max_k 32 of 48"
    assert report["left_out"]["columns-d2"] == "columns 1 of 2, max_k 32 of 48"


@pytest.mark.parametrize("change, fault", [
    (lambda data: data[:40], "silent for 1 s"),
    (lambda data: b"\x55" + data[1:], "{head} came, which is no header"),
    (lambda data: data[:28] + b"\1" + data[29:],
     "what comes before a session counts no more: ACK: byte 28 is 01, not 00"),
    (lambda data: data[:-8] + b"\1" + data[-7:],
     "counters include this frame: COUNTERS: its trailer is wrong"),
])
def test_wrong_answers_end_it(change, fault):
    report = play(ByDocument(Device(8, 2), change))
    (name, found), = report["sessions"].items()
    head = bytes([0x55, *sessions(8, [2])["basics"]().answers[1:24]]).hex()
    assert (name, found) == ("basics", fault.format(head=head))


def test_command_on_a_simulated_device(capsys):
    vectors(device="sim:lanes=8,columns=2,max_k=256", depth=[2], as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["sessions"] == dict.fromkeys(ALL)
    vectors(device="sim:lanes=8", depth=[1])
    assert "columns-d1   left out: columns 1 of 2" in capsys.readouterr().out


def test_command_on_a_device_of_another_process(capsys):
    with serving("--device", "sim:lanes=8,columns=2,max_k=256") as (_, spec):
        vectors(device=spec, depth=[2], as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["sessions"] == dict.fromkeys(ALL)


@pytest.mark.parametrize("options, message", [
    ({"device": "sim,sim"}, "sim,sim: give one device"),
    ({"device": "sim", "lanes": [8]}, "a device has its own lanes; leave --lanes out"),
    ({"device": "sim", "depth": [0]}, "depth must be 1..4, not 0"),
])
def test_wrong_options(capsys, options, message):
    with pytest.raises(SystemExit, match="^1$"):
        vectors(**options)
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_wrong_device_is_reported_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(
        "tritstream.scripts.assurance.vectors.command.open_transport",
        lambda spec: ByDocument(Device(8, 2), lambda data: data[:-8] + b"\1" + data[-7:]))
    with pytest.raises(SystemExit, match="^1$"):
        vectors(device="tcp://nowhere:1", depth=[2])
    assert capsys.readouterr().err == (
        "error: tcp://nowhere:1: basics: counters include this frame: COUNTERS: its trailer is "
        "wrong\n")
