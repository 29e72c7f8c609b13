"""Products of the parts of matrices with vectors that fit a device, as GEMV frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from tritstream.golden.fixed_point import ROWS
from tritstream.host.layout.folding import add_rows
from tritstream.host.layout.prepare import MatrixPart, PreparedMatrix
from tritstream.host.protocol.exchange import Exchange
from tritstream.host.protocol.frames import answer_bytes
from tritstream.host.protocol.loads import Loads
from tritstream.host.protocol.records import Stats
from tritstream.host.protocol.results import Results
from tritstream.host.transports.base import Stored
from tritstream.hw.protocol import BANKS, SUM_BYTES, GemvArguments, Opcode

__all__ = ["GemvFrame", "PartProduct", "part_products"]

# The bit times of the two ends of a line differ a little.
_LINE_MARGIN = 1.06


@dataclass(eq=False)
class PartProduct:
    """Product of one part of a matrix with some vectors.

    Members
    -------
    place : int
        Index of the matrix among those that are multiplied together.
    matrix, part : PreparedMatrix, MatrixPart
        Matrix and range of its columns.
    rows : numpy.ndarray
        Activations of these columns, int8 (B, K).
    sums : numpy.ndarray
        Row sums of the matrix, int64 (B, N), to which :meth:`finish` adds those of the part.
    """

    place:  int
    matrix: PreparedMatrix
    part:   MatrixPart
    rows:   np.ndarray
    sums:   np.ndarray
    #: By frame: row sums int64 (B, rows with padding).
    found:  list[np.ndarray] = field(default_factory=list)

    def frames(self, limit: int, flow_control: bool) -> "Iterator[GemvFrame]":
        """Yield the frames, with payloads of at most ``limit`` bytes or one row block."""
        block = self.part.nbytes // self.part.blocks
        if not flow_control and block < _LINE_MARGIN * self.answer_bytes(1):
            limit = min(limit, BANKS * block)   # results might pile up at a slow line
        for first, count in self.part.cuts(limit):
            yield GemvFrame(self, first, count, self.part.payload(first, count))

    def answer_bytes(self, blocks: int) -> int:
        """Return the bytes of the RESULTs of some row blocks."""
        lanes = self.matrix.lanes
        return blocks * len(self.rows) * answer_bytes(SUM_BYTES * ROWS * lanes, lanes)

    def finish(self) -> None:
        """Add the row sums of all frames."""
        whole = self.found[0] if len(self.found) == 1 else np.concatenate(self.found, axis=1)
        add_rows(self.sums, whole, self.part.fold)


@dataclass(eq=False)
class GemvFrame:
    """Some row blocks of a product, from block ``first`` on, and their words.

    The order of calls is :meth:`ask`, :meth:`take`, each again after a failure.
    """

    product: PartProduct
    first:   int
    count:   int
    payload: memoryview | Stored

    @property
    def requests(self) -> int:
        """Most requests that the frame takes, with its loads."""
        return len(self.product.rows) + 2

    @cached_property
    def nbytes(self) -> int:
        """Bytes of words on the link, and of row sums."""
        words = 0 if isinstance(self.payload, Stored) else self.payload.nbytes
        return words + self.product.answer_bytes(self.count)

    def __str__(self) -> str:
        folded = "folded " if self.product.part.fold else ""
        return (f"GEMV of {folded}row blocks {self.first}..{self.first + self.count - 1} (depth "
                f"{self.product.matrix.depth}, K = {self.product.rows.shape[1]})")

    async def ask(self, exchange: Exchange, loads: Loads) -> int:
        """Send the request after the loads that it needs; return its sequence number."""
        matrix, part, rows = self.product.matrix, self.product.part, self.product.rows
        if not matrix.scales.direct:
            await loads.scales(matrix.scale_bytes)
        await loads.activations(rows)
        depth = part.fold.depth if part.fold else matrix.depth
        arguments = _arguments(depth, part.groups, len(rows), self.count, matrix.scales.length,
                               matrix.scales.direct)
        return await exchange.ask(Opcode.GEMV, *arguments, self.payload,
                                  part.payload_crc(self.first, self.count))

    async def take(self, exchange: Exchange, sequence: int) -> Stats:
        """Await the responses, keep the row sums, and return the cost."""
        lanes, columns = self.product.matrix.lanes, len(self.product.rows)
        results = Results(self.count, columns, lanes)
        done = await exchange.collect(sequence, results)
        stats = Stats.parse(done, lanes).of_frame(self.payload.nbytes)
        self.product.found.append(results.sums.reshape(columns, -1))
        return stats


@lru_cache(maxsize=1024)
def _arguments(
    depth: int, chunks: int, columns: int, blocks: int, length: int, direct: bool,
) -> tuple[int, int]:
    """Return arg0 and arg1 of a GEMV: :class:`.GemvArguments`."""
    return GemvArguments(depth, chunks, columns, blocks, length, direct).pack()


def part_products(
    matrices: Sequence[PreparedMatrix], rows: np.ndarray, sums: Sequence[np.ndarray], columns: int,
) -> Iterator[PartProduct]:
    """Yield the products of all parts, in an order that takes few loads of activations.

    Parameters
    ----------
    matrices : sequence of PreparedMatrix
        Matrices with the same number of columns.
    rows : numpy.ndarray
        Activations, int8 (B, K).
    sums : sequence of numpy.ndarray
        Row sums of each matrix, int64 (B, N).
    columns : int
        Vectors that the device holds.
    """
    for group in sorted({part.first_group for matrix in matrices for part in matrix.parts}):
        for first in range(0, len(rows), columns):
            batch = slice(first, first + columns)
            for place, matrix in enumerate(matrices):
                for part in matrix.parts:
                    if part.first_group == group:
                        yield PartProduct(place, matrix, part, rows[batch, part.columns],
                                          sums[place][batch])
