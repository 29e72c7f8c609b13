"""The command ``tritstream`` whose serial port is silent when the simulation says so.

    python -m benches.patient SOCKET_FD COMMAND..

On a board, silence is time on the wall. Here the bench at the other end of the line is as slow as
the machine is busy, so a wait of the transport ends when the bench tells it, after a silence in
simulated time. Each wait has a number, which is told to the bench as it begins: simulated time can
stand still before, and an answer to a wait that is over is not taken for one to the next.
"""

import select
import socket
import sys
from itertools import count
from types import SimpleNamespace

from tritstream.host.transports import port
from tritstream.scripts.cli import main

__all__ = ["patient"]

#: Seconds after which the bench is taken to hang.
_HANG = 600


def patient(side: socket.socket):
    """``select.select`` whose time limit is the number of the wait, said by the bench."""
    numbers = count()

    def wait(readers, writers, _, seconds):
        now = select.select(readers, writers, [], 0)
        if any(now) or not seconds:
            return now
        number = next(numbers) % 256
        side.send(bytes([number]))
        while True:
            readable, _, _ = select.select([*readers, side], writers, [], _HANG)
            said = side.recv(256) if side in readable else b""
            if side not in readable or said[-1:] == bytes([number]) or len(readable) > 1:
                return select.select(readers, writers, [], 0)
    return wait


if __name__ == "__main__":
    number, *sys.argv[1:] = sys.argv[1:]
    port.select = SimpleNamespace(select=patient(socket.socket(fileno=int(number))))
    main()
