"""Simulated boards for tests, requests in their memory, and answers from their ring."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import numpy as np

from tritstream.host.layout.prepare import prepare
from tritstream.host.protocol.frames import answers as parse
from tritstream.host.protocol.frames import request
from tritstream.host.protocol.operands import mantissa_bytes
from tritstream.host.servers.udp_board import BoardServer
from tritstream.hw.protocol import Opcode
from tritstream.sim.board import SimulatedBoard
from tritstream.sim.soc_build import SocChoice

from support.host_cases import matrix_of, vectors

__all__ = ["CHOICE", "MATRIX", "X", "answers", "frames_of", "load_frames", "product", "rows_of",
           "served", "settle", "simulated"]

#: One build for all short tests: SDRAM, every command checked, a ring that is soon full.
CHOICE = SocChoice("mt48lc16m16", rows=2048, max_k=2048, parts={"ring": 1 << 14})
MATRIX, X = matrix_of(100, 256), vectors(1, 256)[0]


@contextmanager
def simulated(choice=CHOICE):
    """A board that has not broken its memory's timing in the end."""
    with SimulatedBoard(choice) as board:
        yield board
        assert board.violations() == (0, "")


def frames_of(matrix, x, lanes, sequence=1):
    """Request frames of a product: scales, activations, words."""
    prepared = prepare(matrix, lanes, 32768, fold_words=None)
    part, = prepared.parts
    sizes = prepared.depth | part.groups << 8 | 1 << 24
    padded_x = np.pad(x, (0, -len(x) % 16)).tobytes()
    parts = [request(Opcode.SCALES, sequence, 0, 0, mantissa_bytes(prepared.mantissas)),
             request(Opcode.ACTIVATIONS, sequence, 0, len(padded_x), padded_x),
             request(Opcode.GEMV, sequence, sizes, part.blocks, part.payload(0, part.blocks))]
    return b"".join(bytes(piece) for frame in parts for piece in frame)


def load_frames(board, frames, address=0):
    """Frames into memory, and their descriptors: one each. Returns where memory is free."""
    for frame in frames:
        board.load(address, frame)
        board.push(address, len(frame))
        address += len(frame)
    return address


def settle(board, cycles=2_000_000):
    """Until the board has read all requests and written all answers."""
    board.wait("head", board.get("tail"), cycles)
    while True:
        written = board.get("written")
        board.run(3000)
        if board.get("written") == written:
            return


def answers(board):
    """Answers that have come since the last call, in order; their places are given back."""
    align, lanes, ring = (board.get(name) for name in ("align", "lanes", "ring"))
    first, last = board.get("taken"), board.get("written")
    start, units = board.get("memory") - ring, ring // align
    until = min(last, first + units - first % units)        # start of the ring after a wrap
    data = b"".join(board.dump(start + at % units * align, (end - at) * align)
                    for at, end in ((first, until), (until, last)) if end > at)
    board.put("take", last)
    return parse(data, lanes, align)


def rows_of(found, rows):
    """Row sums of the RESULTs among answers."""
    sums = [np.frombuffer(one.payload, "<i8") for one in found
            if one.header.opcode == Opcode.RESULT]
    return np.concatenate(sums)[:rows]


def product(board, matrix, x, address=0):
    """Row sums of a product whose frames are put into memory."""
    load_frames(board, [frames_of(matrix, x, board.build.lanes)], address)
    settle(board)
    return rows_of(answers(board), matrix.shape[0])


@contextmanager
def served(board):
    """The port at which a simulated board answers."""
    stop = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        thread = threading.Thread(target=BoardServer(board, listener).serve, args=(stop.is_set,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            thread.join()


def run(work, seconds=300):
    """Return the result of a coroutine, with a time limit."""
    async def within():
        async with asyncio.timeout(seconds):
            return await work
    return asyncio.run(within())
