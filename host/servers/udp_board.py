"""A simulated board on a UDP port, as a real one would answer on the network."""

import select
import socket
from collections.abc import Callable

from tritstream.sim.board import SimulatedBoard
from tritstream.sim.cable import Cable

__all__ = ["BoardServer"]

#: Cycles simulated at once, and those after which a board with nothing on its cable may sleep.
_STEP, _AWAKE = 500, 20_000
#: Seconds a sleeping board waits for a datagram before it goes on for a while.
_NAP = 0.002


class BoardServer:
    """Carries datagrams between a UDP socket and a simulated board.

    Answers go to whoever sent the last datagram.

    Parameters
    ----------
    board : SimulatedBoard
    listener : socket.socket
        Bound; does not block.
    """

    def __init__(self, board: SimulatedBoard, listener: socket.socket):
        self._cable, self._listener = Cable(board), listener
        self._client: tuple | None = None
        self._board = board

    def serve(self, until: Callable[[], bool]) -> None:
        """Simulate until told."""
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
        """Whether datagrams came; they wait for the board, which gets one after the other."""
        moved = False
        while self._board.waiting < 2:
            try:
                datagram, self._client = self._listener.recvfrom(2048)
            except BlockingIOError:
                break
            self._cable.send(datagram)
            moved = True
        return moved
