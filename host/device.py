"""Driver of one device: exact matrix-vector products, equal to :mod:`tritstream.golden.gemv`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from tritstream.host.board.matrix_store import Store, StoredPart, StoringTransport
from tritstream.host.errors import DeviceError, naming
from tritstream.host.layout.prepare import FRAME_BYTES, PreparedMatrix, prepare
from tritstream.host.layout.stored import AnyMatrix, stored_of, take_tiles
from tritstream.host.part_products import part_products
from tritstream.host.pipeline import Pipeline
from tritstream.host.placement.work import Span
from tritstream.host.protocol.exchange import SEQUENCES, Exchange
from tritstream.host.protocol.loads import Loads
from tritstream.host.protocol.operands import activation_rows, mantissa_bytes
from tritstream.host.protocol.records import Counters, Info, Stats
from tritstream.host.transports.base import Transport
from tritstream.hw.protocol import Opcode

__all__ = ["Device"]


_T = TypeVar("_T")
_L = TypeVar("_L")


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
    def devices(self) -> tuple["Device", ...]:
        """This device, as a group has several."""
        return (self,)

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

    async def prepare(
        self, matrix: AnyMatrix, name: str = "", span: Span | None = None,
    ) -> PreparedMatrix:
        """Make the word streams of a matrix for this device: :func:`.prepare`.

        If a board has the matrix in its memory under this name, the streams are not made, and the
        result refers to the memory. With ``span``, only this part is prepared: the products have
        the rows of its row tiles, and count other columns as zeros.
        """
        info = await self.info()
        if span:
            matrix = take_tiles(stored_of(matrix), slice(span.tiles.start, span.tiles.stop))
        if self._store and (stored := await self._store.find(matrix, name, info, span)):
            return stored
        return prepare(matrix, info.lanes, info.max_k, name, self._transport.fold_words,
                       span.chunks if span else None)

    async def load_activations(self, x: np.ndarray) -> None:
        """Load int8 activations, (K,) or (B, K), zero-padded to a multiple of the group size.

        Not needed before :meth:`gemv`. Raises :class:`ValueError` when they do not fit the device.
        """
        info = await self.info()
        rows = activation_rows(x)
        if rows.shape[0] > info.columns or rows.shape[1] > info.max_k:
            raise ValueError(f"x is {rows.shape[0]} columns of K = {rows.shape[1]}, the device "
                             f"holds {info.columns} of K = {info.max_k}")
        await self._persist("ACTIVATIONS", partial(self._load, self._loads.activations, rows))

    async def load_scales(self, mantissas: np.ndarray) -> None:
        """Load 27 scale mantissas, integers below 2^17. Not needed before :meth:`gemv`."""
        await self.info()
        data = mantissa_bytes(mantissas)
        await self._persist("SCALES", partial(self._load, self._loads.scales, data))

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
        return (await self.gemv_all([matrix], x))[0]

    async def gemv_all(
        self, matrices: Sequence[PreparedMatrix], x: np.ndarray,
    ) -> list[tuple[np.ndarray, Stats]]:
        """Multiply several matrices with the same vectors: :meth:`gemv`, in fewer round trips.

        The requests of all matrices are under way together, as far as the device can hold the
        driver back, and as their bytes and sequence numbers permit.

        Returns row sums and cost of each matrix. Raises the errors of :meth:`gemv`.
        """
        if not matrices:
            return []
        for columns in {matrix.shape[1] for matrix in matrices}:
            rows = activation_rows(x, columns)
        info = await self.info()
        for matrix in matrices:
            with naming(self.name, matrix.name):
                self._check_fit(matrix, info)
        sums = [np.zeros((len(rows), matrix.shape[0]), dtype=np.int64) for matrix in matrices]
        products = list(part_products(matrices, rows, sums, info.columns))
        frames = [frame for product in products
                  for frame in product.frames(self._frame_bytes, self._exchange.flow_control)]
        costs = await Pipeline(self._exchange, self._loads, self.name, frames).run()
        for product in products:
            product.finish()
        stats: list[list[Stats]] = [[] for _ in matrices]
        for frame, cost in zip(frames, costs, strict=True):
            stats[frame.product.place].append(cost)
        return [(each if x.ndim == 2 else each[0], Stats.total(found))
                for each, found in zip(sums, stats, strict=True)]

    def _check_fit(self, matrix: PreparedMatrix, info: Info) -> None:
        matrix.check_fit(info)
        # Refused here and not by the transport, which would have sent the header by then.
        if self._store is None and any(isinstance(part, StoredPart) for part in matrix.parts):
            raise DeviceError("the matrix is in the memory of another device, and this one has no "
                              "memory: prepare the matrix for this device")

    async def _load(self, load: Callable[[_L], Awaitable[None]], data: _L) -> None:
        await load(data)
        await self._exchange.confirm()

    async def _ask_info(self) -> Info:
        self._exchange.forget_lanes()
        info = Info.parse((await self._exchange.call(Opcode.IDENTIFY, Opcode.INFO)).payload)
        info.check_usable(self._exchange.lanes)
        return info

    async def _ask_counters(self) -> Counters:
        return Counters.parse((await self._exchange.call(Opcode.STATUS, Opcode.COUNTERS)).payload)

    async def _persist(self, what: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
        with naming(self.name, what):
            return await self._exchange.persist(attempt, self._loads.forget)
