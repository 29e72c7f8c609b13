"""Simulate a product on the RTL for a waveform, with a pausing source and a slow sink."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tritstream.golden.atomic_write import atomic_file
from tritstream.golden.fixed_point import ROWS, SCALES, half_range
from tritstream.golden.gemv import gemv
from tritstream.golden.matrix import TritMatrix
from tritstream.host.layout.prepare import PreparedMatrix, prepare
from tritstream.host.protocol.frames import Answer, answer_bytes, answers
from tritstream.host.protocol.operands import mantissa_bytes
from tritstream.hw.config import DeviceConfig
from tritstream.hw.device import TritDevice
from tritstream.hw.protocol import DONE_FIELDS, REQUEST_ALIGN, SUM_BYTES, Opcode
from tritstream.scripts.request_bytes import request_bytes
from tritstream.sim.harness import simulate
from tritstream.sim.streams import put

__all__ = ["BLOCKS", "DEPTH", "GROUPS", "LANES", "record"]

LANES  = 2
DEPTH  = 2
GROUPS = 2
BLOCKS = 3

_SEED  = 7
_LIMIT = 3000
#: Pauses of the source in cycles, by the word of the GEMV that follows: the last digit of a group,
#: and its last scale beat.
_GROUP  = 16 * DEPTH + 3
_PAUSES = {2 * _GROUP + 31: 2, 2 * _GROUP + 34: 3}
#: Cycles that the sink pauses after each word that it takes, while words are sent.
_SLOW = 2


def record(path: Path) -> None:
    """Run the product in Amaranth's simulator, and write its waveform.

    Raises :class:`ValueError` unless every row equals golden.
    """
    matrix, x = _operands()
    prepared = prepare(matrix, LANES, 16 * GROUPS)
    dut, taken, sent = TritDevice(DeviceConfig(lanes=LANES, max_k=16 * GROUPS)), bytearray(), []
    wanted = sum(answer_bytes(size, LANES) for size in (
        0, 0, *[SUM_BYTES * ROWS * LANES] * BLOCKS, SUM_BYTES * len(DONE_FIELDS)))

    async def source(ctx):
        words = _words(prepared, x)
        await put(ctx, dut.i, [word for word, _ in words], _stalls([wait for _, wait in words]))
        sent.extend(words)

    async def sink(ctx):
        while len(taken) < wanted:
            ctx.set(dut.o.ready, 1)
            word, = await ctx.tick().sample(dut.o.p.data).until(dut.o.valid)
            ctx.set(dut.o.ready, 0)
            taken.extend(word.to_bytes(LANES, "little"))
            for _ in range(0 if sent else _SLOW):
                await ctx.tick()

    with atomic_file(path) as part:
        simulate(dut, source, sink, cycles=_LIMIT, vcd=part)
    _compare(answers(bytes(taken), LANES, 1), gemv(matrix, x))


def _operands() -> tuple[TritMatrix, np.ndarray]:
    """Small numbers with scales of 1 to 26, so that readers can follow the sums in a picture."""
    rng = np.random.default_rng(_SEED)
    rows, half = ROWS * LANES * BLOCKS, half_range(DEPTH)
    # Mantissas of 17 bits are relative to the largest scale, which no group uses.
    table = np.array([*range(1, SCALES), 2**17 - 1], np.float32)
    q = rng.integers(-half, half + 1, (rows, 16 * GROUPS), np.int8)
    codes = rng.integers(0, SCALES - 1, (rows, GROUPS), np.uint8)
    return (TritMatrix(DEPTH, q.shape, q, codes, table),
            rng.integers(-20, 21, 16 * GROUPS).astype(np.int8))


def _words(prepared: PreparedMatrix, x: np.ndarray) -> list[tuple[int, int]]:
    """Words of all requests in order, each with the cycles to wait before it."""
    part, = prepared.parts
    sizes = DEPTH | part.groups << 8 | 1 << 24
    loads = (request_bytes(Opcode.ACTIVATIONS, 1, 0, len(x), x.tobytes())
             + request_bytes(Opcode.SCALES, 2, payload=mantissa_bytes(prepared.mantissas)))
    product = request_bytes(Opcode.GEMV, 3, sizes, part.blocks, part.payload(0, part.blocks))
    head, payload = loads + product[:REQUEST_ALIGN], product[REQUEST_ALIGN:]
    return [*((word, 0) for word in _split(head)),
            *((word, _PAUSES.get(place, 0)) for place, word in enumerate(_split(payload)))]


def _split(data: bytes) -> Iterator[int]:
    return (int.from_bytes(data[at:at + LANES], "little") for at in range(0, len(data), LANES))


def _stalls(waits: list[int]):
    """Stalls for :func:`tritstream.sim.streams.put`, by number of cycles before each word."""
    asked = iter([stall for wait in waits for stall in (*[True] * wait, False)])
    return lambda: next(asked)


def _compare(found: list[Answer], expected: np.ndarray) -> None:
    sums = b"".join(one.payload for one in found if one.header.opcode == Opcode.RESULT)
    if not np.array_equal(np.frombuffer(sums, "<i8"), expected):
        raise ValueError("the simulated rows differ from golden: the waveform is not drawn")
