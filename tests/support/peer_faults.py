"""Ways for a :class:`peer.Peer` to misbehave: values for its ``faults``."""

from struct import unpack_from

from support.peer import Request, build_frame

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
    """Answer nothing to this request."""
    return []


def refuse(code, forget=False):
    """Answer with an ERROR, after forgetting everything if told so."""
    def fault(peer, request, answers):
        if forget:
            peer.forget()
        return [build_frame(peer.lanes, 0xff, 0, 1) if code == 1 else peer.error(request, code)]
    return fault


def stale_first(peer, request, answers):
    """Send the answers under the sequence number before, with other content, then the right."""
    old = Request(request.opcode, (request.sequence - 1) % 256, 0, 0, b"")
    return [peer.answer(old, 0x82, 0, 0, b"\x55" * 40 * peer.lanes), peer.answer(old, 0x83),
            peer.answer(old, 0x81), peer.error(old, 5), *answers]


def duplicate(index):
    """Send answer ``index`` twice."""
    return lambda peer, request, answers: answers[:index + 1] + answers[index:]


def truncate(index, length):
    """Send ``length`` bytes of answer ``index``, then nothing more of this request."""
    return lambda peer, request, answers: answers[:index] + [answers[index][:length]]


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
