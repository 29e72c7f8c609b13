"""Faults of a fake device: values for ``faults`` of :class:`peer.Peer`."""

from struct import unpack_from

from support.frames import build_frame
from support.peer import Request

__all__ = [
    "corrupt", "done_early", "drop", "duplicate", "refuse", "replace_arguments", "stale_first",
    "truncate",
]


def corrupt(index, offset):
    """Invert byte ``offset`` of answer ``index``."""
    def fault(peer, request, answers):
        damaged = bytearray(answers[index])
        damaged[offset] ^= 0xff
        answers[index] = bytes(damaged)
        return answers
    return fault


def drop(peer, request, answers):
    """Send no response to this request."""
    return []


def refuse(code, forget=False):
    """Send an ERROR; with ``forget``, lose activations and scales first."""
    def fault(peer, request, answers):
        if forget:
            peer.forget()
        return [build_frame(peer.lanes, 0xff, 0, 1) if code == 1 else peer.error(request, code)]
    return fault


def stale_first(peer, request, answers):
    """Send invalid responses of the sequence number before, then the valid responses."""
    old = Request(request.opcode, (request.sequence - 1) % 256, 0, 0, b"")
    return [peer.answer(old, 0x82, 0, 0, b"\x55" * 40 * peer.lanes), peer.answer(old, 0x83),
            peer.answer(old, 0x81), peer.error(old, 5), *answers]


def duplicate(index):
    """Send answer ``index`` twice."""
    return lambda peer, request, answers: answers[:index + 1] + answers[index:]


def truncate(index, length):
    """Send ``length`` bytes of answer ``index``, then nothing more of this request."""
    return lambda peer, request, answers: [*answers[:index], answers[index][:length]]


def done_early(peer, request, answers):
    """Send DONE before the last RESULT."""
    return [*answers[:-2], answers[-1], answers[-2]]


def replace_arguments(index, arg0, arg1, payload=None):
    """Send answer ``index`` with other arguments, and with ``payload`` if it is not None."""
    def fault(peer, request, answers):
        opcode, length = answers[index][2], unpack_from("<I", answers[index], 12)[0]
        start = 20 + -20 % peer.lanes
        content = answers[index][start:start + length] if payload is None else payload
        answers[index] = peer.answer(request, opcode, arg0, arg1, content)
        return answers
    return fault
