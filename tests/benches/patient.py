"""The command ``tritstream``, with timeouts of its serial port in simulated time.

    python -m benches.patient SOCKET_FD COMMAND..

On a board, the transport detects silence by wall time. Here the speed of the bench at the other end
of the line depends on the load of the machine. The bench therefore ends a wait of the transport
after a silence in simulated time. Each wait has a number, which the transport sends to the bench at
its start. Simulated time can stop before that, and a reply to an earlier wait is ignored.
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
    """``select.select`` whose time limit is a message of the bench with the number of the wait."""
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
