"""Driver of one device: exact matrix-vector products, equal to :mod:`tritstream.golden.gemv`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

import numpy as np

from tritstream.golden.fixed_point import ROWS
from tritstream.host.board.matrix_store import Store, StoredPart, StoringTransport
from tritstream.host.errors import DeviceError, naming
from tritstream.host.layout.folding import add_rows
from tritstream.host.layout.prepare import (
    FRAME_BYTES,
    MatrixPart,
    PreparedMatrix,
    prepare,
)
from tritstream.host.layout.stored import AnyMatrix
from tritstream.host.protocol.exchange import SEQUENCES, Exchange
from tritstream.host.protocol.frames import answer_bytes
from tritstream.host.protocol.loads import Loads
from tritstream.host.protocol.operands import activation_rows, mantissa_bytes
from tritstream.host.protocol.records import Counters, Info, Stats
from tritstream.host.protocol.results import Results
from tritstream.host.transports.base import Transport
from tritstream.hw.protocol import BANKS, SUM_BYTES, GemvArguments, Opcode

__all__ = ["Device"]


# The bit times of the two ends of a line differ a little.
_LINE_MARGIN = 1.06

_T = TypeVar("_T")


class Device:
    """A device behind a transport.

    The first call identifies the device. The driver tracks the activations and scales that the
    device holds, and does not send them again. After a failed attempt the driver assumes that the
    device has lost them, so the next attempt loads them before it repeats its frame.

    Methods of one device must not run concurrently.

    Every method raises :class:`.DeviceError` when the device refuses a request or when every
    attempt failed, and :class:`tritstream.host.errors.TransportClosed` when the device is gone.

    Parameters
    ----------
    transport : Transport
        Way to the device, closed with this object.
    retries : int
        Further attempts after one that failed.
    frame_bytes : int
        Longest payload of a GEMV frame. One row block is sent even if it is longer.
    name : str
        Name of the device in error messages; may be empty.
    sequences : sequence of int
        Sequence numbers of requests. Devices whose responses might get mixed up must not share
        numbers.
    """

    def __init__(self, transport: Transport, retries: int = 3, frame_bytes: int = FRAME_BYTES,
                 name: str = "", sequences: Sequence[int] = SEQUENCES):
        if not isinstance(frame_bytes, int) or frame_bytes < 1:
            raise ValueError(f"frame_bytes must be a positive integer, not {frame_bytes!r}")
        self.name = name
        self._transport = transport
        self._store = transport.store if isinstance(transport, StoringTransport) else None
        self._exchange = Exchange(transport, retries, sequences)
        self._frame_bytes = frame_bytes
        self._info: Info | None = None
        self._loads = Loads(self._exchange)

    @property
    def about(self) -> Mapping[str, str]:
        """How the device was made, if known: for a simulation, its engine and RTL."""
        return self._transport.about

    @property
    def store(self) -> Store | None:
        """Matrices in the memory of a board; None for a device without memory."""
        return self._store

    @property
    def exchange(self) -> Exchange:
        """Exchange of single requests, for requests that no method sends."""
        return self._exchange

    async def __aenter__(self) -> "Device":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the transport. Call it in the event loop in which the device was used."""
        self._transport.close()

    async def identify(self) -> Info:
        """Return what the device reports about itself; always asks it."""
        self._info = None
        self._loads.forget()
        self._info = await self._persist("IDENTIFY", self._ask_info)
        return self._info

    async def info(self) -> Info:
        """Return what the device reports about itself; asks it only once."""
        return self._info or await self.identify()

    async def reset(self) -> None:
        """Reset the device, which loses activations, scales and counters."""
        await self.info()
        self._loads.forget()
        await self._persist("RESET", partial(self._exchange.call, Opcode.RESET, Opcode.ACK))

    async def status(self) -> Counters:
        """Return the device's counters."""
        await self.info()
        return await self._persist("STATUS", self._ask_counters)

    async def prepare(self, matrix: AnyMatrix, name: str = "") -> PreparedMatrix:
        """Make the word streams of a matrix for this device: :func:`.prepare`.

        If a board has the matrix in its memory under this name, the streams are not made, and the
        result refers to the memory.
        """
        info = await self.info()
        if self._store and (stored := await self._store.find(matrix, name, info)):
            return stored
        return prepare(matrix, info.lanes, info.max_k, name, self._transport.fold_words)

    async def load_activations(self, x: np.ndarray) -> None:
        """Load int8 activations, (K,) or (B, K), zero-padded to a multiple of the group size.

        Not needed before :meth:`gemv`. Raises :class:`ValueError` when they do not fit the device.
        """
        info = await self.info()
        rows = activation_rows(x)
        if rows.shape[0] > info.columns or rows.shape[1] > info.max_k:
            raise ValueError(f"x is {rows.shape[0]} columns of K = {rows.shape[1]}, the device "
                             f"holds {info.columns} of K = {info.max_k}")
        await self._persist("ACTIVATIONS", partial(self._loads.activations, rows))

    async def load_scales(self, mantissas: np.ndarray) -> None:
        """Load 27 scale mantissas, integers below 2^17. Not needed before :meth:`gemv`."""
        await self.info()
        data = mantissa_bytes(mantissas)
        await self._persist("SCALES", partial(self._loads.scales, data))

    async def gemv(self, matrix: PreparedMatrix, x: np.ndarray) -> tuple[np.ndarray, Stats]:
        """Multiply a matrix with one vector or a batch of vectors.

        Equals :func:`.gemv`. A batch of more vectors than the device has columns takes several
        passes over the weights. A matrix wider than its max K takes several loads of activations.

        Parameters
        ----------
        matrix : PreparedMatrix
            Matrix (N, K), prepared for this device's lanes and max K.
        x : numpy.ndarray
            Activations, int8 (K,) or (B, K).

        Returns row sums int64 (N,) or (B, N), and the measured cost. Raises :class:`ValueError`
        when ``x`` does not fit the matrix, :class:`.DeviceError` when the matrix was not prepared
        for this device.
        """
        rows = activation_rows(x, matrix.shape[1])
        info = await self.info()
        with naming(self.name, matrix.name):
            self._check_fit(matrix, info)
        sums = np.zeros((len(rows), matrix.shape[0]), dtype=np.int64)
        stats, retried = Stats(), self._exchange.retried
        # Parts of the same columns share one load of activations per batch.
        for _, column_range in groupby(matrix.parts, key=attrgetter("first_group")):
            parts = list(column_range)
            for first in range(0, len(rows), info.columns):
                batch = slice(first, first + info.columns)
                stats += await self._multiply_batch(matrix, parts, rows[batch], sums[batch])
        stats += Stats(retries=self._exchange.retried - retried)
        return (sums if x.ndim == 2 else sums[0]), stats

    def _check_fit(self, matrix: PreparedMatrix, info: Info) -> None:
        matrix.check_fit(info)
        # Refused here and not by the transport, which would have sent the header by then.
        if self._store is None and any(isinstance(part, StoredPart) for part in matrix.parts):
            raise DeviceError("the matrix is in the memory of another device, and this one has no "
                              "memory: prepare the matrix for this device")

    async def _multiply_batch(
        self, matrix: PreparedMatrix, parts: Sequence[MatrixPart], rows: np.ndarray,
        sums: np.ndarray,
    ) -> Stats:
        """Add the row sums of parts of the same columns to ``sums``, for vectors that fit."""
        stats = Stats()
        for part in parts:
            part_sums, part_stats = await self._multiply_part(
                matrix, part, rows[:, part.columns])
            add_rows(sums, part_sums, part.fold)
            stats += part_stats
        return stats

    async def _multiply_part(
        self, matrix: PreparedMatrix, part: MatrixPart, rows: np.ndarray
    ) -> tuple[np.ndarray, Stats]:
        """Return row sums (vectors, rows with padding) of one part, for vectors that fit."""
        products, stats = [], Stats()
        for first, count in part.cuts(self._payload_limit(part, len(rows), matrix.lanes)):
            what = (f"GEMV of {'folded ' if part.fold else ''}row blocks "
                    f"{first}..{first + count - 1} (depth {matrix.depth}, K = {rows.shape[1]})")
            results, frame_stats = await self._persist(
                what, partial(self._try_frame, matrix, part, rows, first, count), matrix.name)
            products.append(results.sums.reshape(len(rows), -1))
            stats += frame_stats
        return np.concatenate(products, axis=1), stats

    def _payload_limit(self, part: MatrixPart, columns: int, lanes: int) -> int:
        """Return the longest payload of a frame; short if results might pile up at a slow line."""
        block = part.nbytes // part.blocks
        results = columns * answer_bytes(SUM_BYTES * ROWS * lanes, lanes)
        waits = not self._exchange.flow_control and block < _LINE_MARGIN * results
        return min(self._frame_bytes, BANKS * block) if waits else self._frame_bytes

    async def _try_frame(
        self, matrix: PreparedMatrix, part: MatrixPart, rows: np.ndarray, first: int, count: int
    ) -> tuple[Results, Stats]:
        """Try one GEMV frame once, with the loads it needs."""
        if not matrix.scales.direct:
            await self._loads.scales(mantissa_bytes(matrix.mantissas))
        await self._loads.activations(rows)
        depth = part.fold.depth if part.fold else matrix.depth
        arguments = GemvArguments(depth, part.groups, len(rows), count, matrix.scales.length,
                                  matrix.scales.direct)
        payload = part.payload(first, count)
        await self._exchange.ask(Opcode.GEMV, *arguments.pack(), payload)
        results = Results(count, len(rows), matrix.lanes)
        answer = await self._exchange.answer(Opcode.RESULT, Opcode.DONE)
        while answer.header.opcode == Opcode.RESULT:
            results.add(answer)
            answer = await self._exchange.answer(Opcode.RESULT, Opcode.DONE)
        results.close()
        return results, Stats.parse(answer.payload, matrix.lanes).of_frame(payload.nbytes)

    async def _ask_info(self) -> Info:
        self._exchange.forget_lanes()
        info = Info.parse((await self._exchange.call(Opcode.IDENTIFY, Opcode.INFO)).payload)
        info.check_usable(self._exchange.lanes)
        return info

    async def _ask_counters(self) -> Counters:
        return Counters.parse((await self._exchange.call(Opcode.STATUS, Opcode.COUNTERS)).payload)

    async def _persist(
        self, what: str, attempt: Callable[[], Awaitable[_T]], matrix: str = ""
    ) -> _T:
        with naming(self.name, matrix, what):
            return await self._exchange.persist(attempt, self._loads.forget)
