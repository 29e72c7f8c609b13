"""Row sums collected from the RESULT responses to one GEMV frame."""

import numpy as np

from tritstream.golden.fixed_point import ROWS
from tritstream.host.errors import BadAnswer
from tritstream.host.protocol.frames import Answer
from tritstream.hw.protocol import SUM_BYTES

__all__ = ["Results"]


class Results:
    """Row sums of some row blocks. RESULTs may come in any order, but each only once.

    Parameters
    ----------
    blocks, columns : int
        Number of row blocks and of activation columns of the frame.
    lanes : int
        Lanes of the device.

    Members
    -------
    sums : numpy.ndarray
        Row sums, int64 (columns, blocks, 5 * lanes).
    """

    def __init__(self, blocks: int, columns: int, lanes: int):
        self.sums = np.zeros((columns, blocks, ROWS * lanes), dtype=np.int64)
        self._received = np.zeros((columns, blocks), dtype=bool)

    def add(self, answer: Answer) -> None:
        """Add a RESULT.

        Raises :class:`BadAnswer` when its block, column or length does not fit this frame, or when
        the same RESULT was added before.
        """
        block, column = answer.header.arg0, answer.header.arg1
        columns, blocks, rows = self.sums.shape
        if block >= blocks or column >= columns:
            raise BadAnswer(f"RESULT of block {block}, column {column} in a frame of {blocks} "
                            f"blocks, {columns} columns")
        if len(answer.payload) != SUM_BYTES * rows:
            raise BadAnswer(f"RESULT has {len(answer.payload)} bytes where {SUM_BYTES * rows} "
                            f"are expected")
        if self._received[column, block]:
            raise BadAnswer(f"second RESULT of block {block}, column {column}")
        self._received[column, block] = True
        self.sums[column, block] = np.frombuffer(answer.payload, dtype="<i8")

    def close(self) -> None:
        """Raise :class:`BadAnswer` unless every RESULT was added."""
        missing = int(np.count_nonzero(~self._received))
        if missing:
            raise BadAnswer(f"DONE with {missing} of {self._received.size} RESULTs missing")
