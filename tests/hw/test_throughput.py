import struct
from dataclasses import dataclass

import numpy as np
import pytest

from tritstream.golden.fixed_point import row_blocks, tiles_shape
from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack, word_stream
from tritstream.hw.config import DeviceConfig
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice, Span

from support.frames import build_frame

LANES = 8
ACTIVATIONS, SCALES, GEMV = 1, 2, 3
#: Words of a RESULT frame.
FRAME = 40 + -(-20 // LANES) + -(-4 // LANES)
#: Cycles from one RESULT to the next where results are what a GEMV waits for.
RESULT_CYCLES = FRAME + 4
#: Bytes of the frames.
RESULT_BYTES, DONE_BYTES, ACK_BYTES = FRAME * LANES, (3 + 4 + 1) * LANES, (3 + 1) * LANES


@dataclass(frozen=True)
class Run:
    """What a GEMV gave, and when its words were taken."""

    sums:     np.ndarray    # (rows,)
    expected: np.ndarray
    span:     Span
    words:    int           # of the payload
    cycles:   int
    input_stalls:  int
    output_stalls: int
    counted_words: int


@pytest.fixture(scope="module")
def library():
    return build_native(LANES, device_rtl(DeviceConfig(lanes=LANES))).library


def run(library, rows, columns, depth):
    """A GEMV of random bytes, its source always having data and its sink always taking."""
    rng = np.random.default_rng([rows, columns, depth])
    tiles = rng.integers(0, 256, tiles_shape((rows, columns), depth), np.uint8)
    mantissas = rng.integers(1, 2**17, 27)
    mantissas[0] = 2**17 - 1
    matrix = unpack(tiles, depth, (rows, columns), mantissas.astype(np.float32))
    x = rng.integers(-128, 128, columns, np.int8)
    blocks = row_blocks(rows, LANES)
    payload = word_stream(tiles, LANES).tobytes()
    request = build_frame(64, GEMV, 1, depth | columns // 16 << 8 | 1 << 24, blocks, payload)
    with NativeDevice(library) as device:
        for part in (build_frame(64, ACTIVATIONS, 1, 0, columns, x.tobytes()),
                     build_frame(64, SCALES, 1, payload=mantissas.astype("<u4").tobytes()),
                     request[:64]):
            device.push(part)
        device.pull(2 * ACK_BYTES)
        # The device waits for the first word.
        device.idle(50)
        span = device.push(payload)
        device.push(request[64 + len(payload):])
        answers = device.pull(blocks * RESULT_BYTES)
        done = struct.unpack_from("<4Q", device.pull(DONE_BYTES), 3 * LANES)
    results = np.frombuffer(answers, np.uint8).reshape(blocks, RESULT_BYTES)
    sums = results[:, 3 * LANES:-LANES].copy().view("<i8").reshape(-1)[:rows]
    cycles, input_stalls, output_stalls, counted = done
    return Run(sums, gemv(matrix, x), span, len(payload) // LANES, cycles, input_stalls,
               output_stalls, counted)


@pytest.mark.parametrize("rows, columns", [(896, 4864), (4864, 896)])
def test_takes_a_word_in_at_least_99_of_100_cycles(library, rows, columns):
    got = run(library, rows, columns, 3)
    np.testing.assert_array_equal(got.sums, got.expected)
    assert got.words / (got.span.last - got.span.first + 1) >= 0.99
    assert got.counted_words == got.words
    assert got.words / got.cycles >= 0.99


@pytest.mark.parametrize("rows, columns, depth", [
    (896, 4864, 3), (4864, 896, 3), (200, 96, 1), (200, 96, 2), (120, 64, 4)])
def test_cycles_are_blocks_times_groups_times_beats(library, rows, columns, depth):
    beats = columns // 16 * (16 * depth + 3)
    assert beats >= RESULT_CYCLES
    got = run(library, rows, columns, depth)
    assert got.span.last - got.span.first + 1 == row_blocks(rows, LANES) * beats
    assert (got.input_stalls, got.output_stalls) == (0, 0)


@pytest.mark.parametrize("columns, depth", [(16, 1), (32, 1), (16, 2)])
def test_narrow_matrix_waits_for_its_results_and_loses_no_word(library, columns, depth):
    beats = columns // 16 * (16 * depth + 3)
    assert beats < RESULT_CYCLES
    got = run(library, 4000, columns, depth)
    np.testing.assert_array_equal(got.sums, got.expected)
    assert got.counted_words == got.words == 100 * beats
    assert got.output_stalls > 0
    # The first row block, its way through, and the RESULTs one after another.
    assert got.cycles <= beats + 40 + 100 * RESULT_CYCLES
