"""Server of a simulated board on a UDP port, where it responds like a real board."""

import select
import socket
from collections.abc import Callable

from tritstream.sim.board import SimulatedBoard
from tritstream.sim.cable import Cable

__all__ = ["BoardServer"]

#: Cycles simulated at a time, and cycles without a datagram after which the simulation pauses.
_STEP, _AWAKE = 500, 20_000
#: Seconds that a paused simulation waits for a datagram before it resumes for a while.
_NAP = 0.002


class BoardServer:
    """Forward datagrams between a UDP socket and a simulated board.

    Responses go to the sender of the last datagram.

    Parameters
    ----------
    board : SimulatedBoard
        Board to serve.
    listener : socket.socket
        Bound, non-blocking UDP socket.
    """

    def __init__(self, board: SimulatedBoard, listener: socket.socket):
        self._cable, self._listener = Cable(board), listener
        self._client: tuple | None = None
        self._board = board

    def serve(self, until: Callable[[], bool]) -> None:
        """Simulate until ``until()`` is true."""
        quiet = 0
        while not until():
            moved = self._take()
            for datagram in self._cable.run(_STEP):
                moved = True
                if self._client:
                    self._listener.sendto(datagram, self._client)
            quiet = 0 if moved or self._board.waiting else quiet + _STEP
            if quiet > _AWAKE:
                select.select([self._listener], [], [], _NAP)
                quiet = 0

    def _take(self) -> bool:
        """Queue datagrams for the board, at most two; return whether any came."""
        moved = False
        while self._board.waiting < 2:
            try:
                datagram, self._client = self._listener.recvfrom(2048)
            except BlockingIOError:
                break
            self._cable.send(datagram)
            moved = True
        return moved
