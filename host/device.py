"""The driver: matrix times vectors on a device, bit for bit what :mod:`tritstream.golden.gemv` computes."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import groupby, product
from operator import attrgetter
from typing import TypeVar

import numpy as np

from tritstream.golden.fixed_point import GROUP, MAX_K, ROWS
from tritstream.golden.matrix import TritMatrix
from tritstream.host.board.matrix_store import Store
from tritstream.host.errors import DeviceError, naming
from tritstream.host.layout.folding import FOLD_WORDS, add_rows
from tritstream.host.layout.prepare import FRAME_BYTES, Part, PreparedMatrix, Tiles, prepare
from tritstream.host.protocol.exchange import SEQUENCES, Link
from tritstream.host.protocol.frames import answer_bytes
from tritstream.host.protocol.operands import activation_rows, mantissa_bytes
from tritstream.host.protocol.records import Counters, Info, Stats
from tritstream.host.protocol.results import Results
from tritstream.host.transports.base import Transport
from tritstream.hw.config import LANE_COUNTS, MAX_COLUMNS
from tritstream.hw.protocol import BANKS, SUM_BYTES, VERSION, Opcode

__all__ = ["Device"]


# Two ends of a line never quite agree on a bit time.
_LINE_MARGIN = 1.06

_T = TypeVar("_T")


class Device:
    """A device behind a transport.

    The first call identifies the device. What it holds is tracked, and nothing it holds already
    is sent again. Whatever way a try failed, the device is then taken to have forgotten
    everything: the next try loads activations and scales before it repeats its frame.

    One call at a time: methods of one device must not run concurrently.

    Every method raises :class:`.DeviceError` when the device refuses or when all tries
    failed, and :class:`tritstream.host.errors.TransportClosed` when the device is gone.

    Parameters
    ----------
    transport : Transport
    retries : int
        Further tries after one that failed.
    frame_bytes : int
        Longest payload of a GEMV frame; one row block is sent even if it is longer.
    name : str
        What errors call the device, if anything.
    sequences : sequence of int
        Numbers of requests. Devices whose answers might get mixed up share none.
    """

    def __init__(self, transport: Transport, retries: int = 3, frame_bytes: int = FRAME_BYTES,
                 name: str = "", sequences: Sequence[int] = SEQUENCES):
        if not isinstance(frame_bytes, int) or frame_bytes < 1:
            raise ValueError(f"frame_bytes must be a positive integer, not {frame_bytes!r}")
        self.name = name
        self._transport = transport
        self._store: Store | None = getattr(transport, "store", None)
        self._link = Link(transport, retries, sequences)
        self._frame_bytes = frame_bytes
        self._info: Info | None = None
        self._activations: dict[int, bytes] = {}
        self._scales: bytes | None = None

    @property
    def about(self) -> dict[str, str]:
        """What is known of how the device was made: of a simulation, engine and RTL."""
        return getattr(self._transport, "about", {})

    @property
    def store(self) -> Store | None:
        """What a board with memory holds; None of a device without."""
        return self._store

    @property
    def link(self) -> Link:
        """For requests that no method makes."""
        return self._link

    async def __aenter__(self) -> "Device":
        return self

    async def __aexit__(self, *_) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the transport back; to be called where the device was used."""
        self._transport.close()

    async def identify(self) -> Info:
        """Ask the device what it is, even if that is known already."""
        self._info = None
        self._forget()
        self._info = await self._persist("IDENTIFY", self._ask_info)
        return self._info

    async def info(self) -> Info:
        """What the device is; asks it only if that is not known yet."""
        return self._info or await self.identify()

    async def reset(self) -> None:
        """Make the device forget activations, scales and counters."""
        await self.info()
        self._forget()
        await self._persist("RESET", partial(self._link.call, Opcode.RESET, Opcode.ACK))

    async def status(self) -> Counters:
        """Read the device's counters."""
        await self.info()
        return await self._persist("STATUS", self._ask_counters)

    async def prepare(self, matrix: TritMatrix | Tiles, name: str = "") -> PreparedMatrix:
        """Make the word streams of a matrix for this device: :func:`.prepare`.

        Nothing is made of one that a board has stored under its name.
        """
        info = await self.info()
        if self._store and (stored := await self._store.find(matrix, name, info)):
            return stored
        fold_words = getattr(self._transport, "fold_words", FOLD_WORDS)
        return prepare(matrix, info.lanes, info.max_k, name, fold_words)

    async def load_activations(self, x: np.ndarray) -> None:
        """Load int8 activations, (K,) or (B, K), padded with zeros to whole groups.

        Not needed before :meth:`gemv`. Raises :class:`ValueError` when they do not fit the device.
        """
        info = await self.info()
        rows = activation_rows(x)
        if rows.shape[0] > info.columns or rows.shape[1] > info.max_k:
            raise ValueError(f"x is {rows.shape[0]} columns of K = {rows.shape[1]}, the device "
                             f"holds {info.columns} of K = {info.max_k}")
        await self._persist("ACTIVATIONS", partial(self._hold_activations, rows))

    async def load_scales(self, mantissas: np.ndarray) -> None:
        """Load 27 scale mantissas, integers below 2^17. Not needed before :meth:`gemv`."""
        await self.info()
        data = mantissa_bytes(mantissas)
        await self._persist("SCALES", partial(self._hold_scales, data))

    async def gemv(self, matrix: PreparedMatrix, x: np.ndarray) -> tuple[np.ndarray, Stats]:
        """Multiply a matrix with one vector or a batch of vectors.

        Equals :func:`.gemv`. A batch above the device's columns takes several passes
        over the weights, a matrix above its max K several loads of activations.

        Parameters
        ----------
        matrix : PreparedMatrix
            N x K, prepared for this device's lanes and max K.
        x : numpy.ndarray
            int8 (K,) or (B, K).

        Returns int64 (N,) or (B, N), and what it cost. Raises :class:`ValueError` when ``x`` does
        not fit the matrix.
        """
        rows = activation_rows(x, matrix.shape[1])
        info = await self.info()
        with naming(self.name, matrix.name):
            matrix.check_fit(info)
        sums = np.zeros((len(rows), matrix.shape[0]), dtype=np.int64)
        stats, retried = Stats(), self._link.retried
        for _, parts in groupby(matrix.parts, key=attrgetter("first_group")):
            for first, part in product(range(0, len(rows), info.columns), list(parts)):
                some = slice(first, first + info.columns)
                found, cost = await self._pass(matrix, part, rows[some, part.columns])
                add_rows(sums[some], found, part.fold)
                stats += cost
        stats += Stats(retries=self._link.retried - retried)
        return (sums if x.ndim == 2 else sums[0]), stats

    async def _pass(
        self, matrix: PreparedMatrix, part: Part, rows: np.ndarray
    ) -> tuple[np.ndarray, Stats]:
        """Row sums (columns, rows with padding) of one part for as many vectors as fit."""
        products, stats = [], Stats()
        for first, count in part.cuts(self._limit(part, len(rows))):
            what = (f"GEMV of {'folded ' if part.fold else ''}row blocks "
                    f"{first}..{first + count - 1} (depth {matrix.depth}, K = {rows.shape[1]})")
            results, cost = await self._persist(
                what, partial(self._frame, matrix, part, rows, first, count), matrix.name)
            products.append(results.sums.reshape(len(rows), -1))
            stats += cost
        return np.concatenate(products, axis=1), stats

    def _limit(self, part: Part, columns: int) -> int:
        """Longest payload of a frame; short where results might pile up behind a slow line."""
        lanes = self._link.lanes
        block = part.nbytes // part.blocks
        results = columns * answer_bytes(SUM_BYTES * ROWS * lanes, lanes)
        waits = not self._link.flow_control and block < _LINE_MARGIN * results
        return min(self._frame_bytes, BANKS * block) if waits else self._frame_bytes

    async def _frame(
        self, matrix: PreparedMatrix, part: Part, rows: np.ndarray, first: int, count: int
    ) -> tuple[Results, Stats]:
        """One try of one GEMV frame, with the loads it needs."""
        await self._hold_scales(mantissa_bytes(matrix.mantissas))
        await self._hold_activations(rows)
        depth = part.fold.depth if part.fold else matrix.depth
        sizes = depth | part.groups << 8 | len(rows) << 24
        payload = part.payload(first, count)
        await self._link.ask(Opcode.GEMV, sizes, count, payload)
        results = Results(count, len(rows), matrix.lanes)
        answer = await self._link.answer(Opcode.RESULT, Opcode.DONE)
        while answer.header.opcode == Opcode.RESULT:
            results.add(answer)
            answer = await self._link.answer(Opcode.RESULT, Opcode.DONE)
        results.close()
        return results, Stats.parse(answer.payload, matrix.lanes).of_frame(payload.nbytes)

    async def _hold_activations(self, rows: np.ndarray) -> None:
        for column, row in enumerate(rows):
            data = row.tobytes()
            if self._activations.get(column) != data:
                self._activations.pop(column, None)
                await self._link.call(Opcode.ACTIVATIONS, Opcode.ACK, column, len(data), data)
                self._activations[column] = data

    async def _hold_scales(self, data: bytes) -> None:
        if self._scales != data:
            self._scales = None
            await self._link.call(Opcode.SCALES, Opcode.ACK, payload=data)
            self._scales = data

    async def _ask_info(self) -> Info:
        self._link.forget_lanes()
        info = Info.parse((await self._link.call(Opcode.IDENTIFY, Opcode.INFO)).payload)
        return _usable(info, self._link.lanes)

    async def _ask_counters(self) -> Counters:
        return Counters.parse((await self._link.call(Opcode.STATUS, Opcode.COUNTERS)).payload)

    async def _persist(
        self, what: str, attempt: Callable[[], Awaitable[_T]], matrix: str = ""
    ) -> _T:
        with naming(self.name, matrix, what):
            return await self._link.persist(attempt, self._forget)

    def _forget(self) -> None:
        self._activations.clear()
        self._scales = None


def _usable(info: Info, lanes: int | None) -> Info:
    """What a device says of itself, and has said in the header that this came with."""
    if info.version != VERSION:
        raise DeviceError(f"device speaks protocol version {info.version}, this driver version "
                          f"{VERSION}: take driver and gateware of the same release")
    if (info.lanes not in LANE_COUNTS or info.lanes != lanes
            or not 1 <= info.columns <= MAX_COLUMNS or not GROUP <= info.max_k <= MAX_K):
        raise DeviceError(f"device reports impossible sizes: {info.lanes} lanes, {info.columns} "
                          f"columns, max K {info.max_k}")
    return info
