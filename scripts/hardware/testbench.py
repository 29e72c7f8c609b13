"""The IP core with a testbench: requests, and the responses that golden expects."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack
from typing import NamedTuple
from zlib import crc32

import numpy as np

from tritstream.golden.fixed_point import MAX_DEPTH, ROWS
from tritstream.golden.gemv import gemv
from tritstream.golden.quantize import quantize
from tritstream.host.layout.prepare import prepare
from tritstream.host.protocol.frames import Header, padded
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import (
    REQUEST_ALIGN,
    SUM_BYTES,
    TRAILER_BYTES,
    VERSION,
    ErrorCode,
    Opcode,
)
from tritstream.hw.tools.core_export import export_core, testbench_verilog
from tritstream.scripts.console import write_text
from tritstream.scripts.request_bytes import request_bytes

__all__ = ["Exchange", "Frame", "exchanges", "write_testbench"]

_COUNTS = bytes(4 * SUM_BYTES)      # payload of DONE and COUNTERS: only the device knows it
_SEED   = 1


class Frame(NamedTuple):
    """A request or a response, without sequence number and checksums."""

    opcode:  int
    arg0:    int = 0
    arg1:    int = 0
    payload: bytes = b""


@dataclass(frozen=True)
class Exchange:
    """A request, with a wrong trailer if ``damaged``, and its responses."""

    request: Frame
    answers: list[Frame] = field(default_factory=lambda: [Frame(Opcode.ACK)])
    damaged: bool = False


def exchanges(config: DeviceConfig) -> Iterator[Exchange]:
    """Yield a session after a reset: products of every depth, and requests to refuse."""
    info = pack("<6I", VERSION, config.lanes, config.columns, config.max_k, config.clock_hz,
                config.build_id)
    yield Exchange(Frame(Opcode.IDENTIFY), [Frame(Opcode.INFO, config.lanes, 0, info)])
    yield Exchange(Frame(0x77), [Frame(Opcode.ERROR, ErrorCode.OPCODE, 0x77)])
    rng = np.random.default_rng(_SEED)
    for depth in range(1, MAX_DEPTH + 1):
        yield from _product(config, rng, depth)
    yield Exchange(Frame(Opcode.RESET), [Frame(Opcode.ERROR, ErrorCode.TRAILER, Opcode.RESET)],
                   damaged=True)
    yield Exchange(Frame(Opcode.STATUS), [Frame(Opcode.COUNTERS, payload=_COUNTS)])
    yield Exchange(Frame(Opcode.RESET))


def _product(config, rng, depth):
    """Loads and a GEMV of two row blocks, for at most three columns of the device."""
    rows, k = 2 * ROWS * config.lanes - 1, min(48, config.max_k)
    matrix  = quantize(rng.normal(size=(rows, k)), depth)
    x       = rng.integers(-128, 128, (min(config.columns, 3), k), dtype=np.int8)
    stream  = prepare(matrix, config.lanes, config.max_k, fold_words=None)
    part,   = stream.parts
    yield Exchange(Frame(Opcode.SCALES, payload=stream.mantissas.astype("<u4").tobytes()))
    for column, vector in enumerate(x):
        yield Exchange(Frame(Opcode.ACTIVATIONS, column, k, vector.tobytes()))
    sums = np.zeros((len(x), part.blocks * ROWS * config.lanes), "<i8")
    sums[:, :rows] = gemv(matrix, x)
    sums = sums.reshape(len(x), part.blocks, -1)
    results = [Frame(Opcode.RESULT, block, column, sums[column, block].tobytes())
               for block in range(part.blocks) for column in range(len(x))]
    words = bytes(part.payload(0, part.blocks))
    yield Exchange(Frame(Opcode.GEMV, depth | part.groups << 8 | len(x) << 24, part.blocks, words),
                   [*results, Frame(Opcode.DONE, payload=_COUNTS)])


def write_testbench(config: DeviceConfig, folder: Path) -> None:
    """Write core, testbench, requests and responses to a folder."""
    core, config = export_core(config)
    requests, answers = [], []
    for sequence, exchange in enumerate(exchanges(config)):
        requests += _request_words(exchange, sequence, config.lanes)
        for frame in exchange.answers:
            answers += _answer_words(frame, sequence, config.lanes)
    for name, text in {
        "tritstream.v":    core,
        "tb_tritstream.v": testbench_verilog(config),
        "requests.hex":    "\n".join(requests) + "\n",
        "answers.hex":     "\n".join(answers) + "\n",
    }.items():
        write_text(folder / name, text)


def _request_words(exchange, sequence, lanes):
    opcode, arg0, arg1, payload = exchange.request
    data = bytearray(request_bytes(opcode, sequence, arg0, arg1, payload))
    data[-REQUEST_ALIGN] ^= exchange.damaged
    return _words(data, lanes)


def _answer_words(frame, sequence, lanes):
    """Words, each after two digits: whether its bytes are compared, and TLAST."""
    opcode, arg0, arg1, payload = frame
    header = Header(opcode, sequence, arg0, arg1, len(payload)).pack()
    parts  = [part.ljust(padded(len(part), lanes), b"\0") for part in (header, payload)]
    crc    = crc32(b"".join(parts)).to_bytes(TRAILER_BYTES, "little")
    words  = _words(b"".join([*parts, crc.ljust(padded(TRAILER_BYTES, lanes), b"\0")]), lanes)
    known  = len(parts[0]) // lanes if payload is _COUNTS else len(words)
    return [f"{place < known:d}{place == len(words) - 1:d}{word}"
            for place, word in enumerate(words)]


def _words(data, lanes):
    return [bytes(data[at:at + lanes])[::-1].hex() for at in range(0, len(data), lanes)]
