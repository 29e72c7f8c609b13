"""The far end of a serial port, on a pseudo-terminal."""

import asyncio
import os
import select
import threading

from support.peer import Peer

__all__ = ["Board", "peer_of"]


class Board:
    """Far end of a serial port: a pseudo-terminal to which ``respond`` responds."""

    def __init__(self):
        self.master, self._slave = os.openpty()
        self.port = os.ttyname(self._slave)
        self._thread = None
        self._stop = threading.Event()

    def answer(self, respond):
        """Respond from now on: ``respond`` gets received bytes and returns bytes to write."""
        self._thread = threading.Thread(target=self._run, args=(respond,))
        self._thread.start()

    def unplug(self):
        self._stop.set()
        if self._thread:
            self._thread.join()
        for end in (self.master, self._slave):
            os.close(end)
        self.master = None

    def _run(self, respond):
        while not self._stop.is_set():
            if select.select([self.master], [], [], 0.05)[0]:
                rest = respond(os.read(self.master, 4096))
                while rest:
                    rest = rest[os.write(self.master, rest):]


def peer_of(board, **options):
    """Connect a fake device to the far end."""
    peer = Peer(**options)
    peer.rest = bytearray()

    def respond(data):
        peer.rest += data
        whole = len(peer.rest) // 64 * 64
        if whole:
            asyncio.run(peer.send(bytes(peer.rest[:whole])))
            del peer.rest[:whole]
        out, peer.out = bytes(peer.out), bytearray()
        return out

    board.answer(respond)
    return peer
