import asyncio

import numpy as np

from tritstream.golden.activation import quantize_activation
from tritstream.golden.gemv import gemv
from tritstream.host.device import Device
from tritstream.host.layout.prepare import tiles_of
from tritstream.scripts.running import stream
from tritstream.scripts.running.stream import Job, stream_matrix

from support.host_cases import matrix_of
from support.peer import Peer
from support.peer_faults import replace_arguments


def test_rows_that_differ_are_counted_from_the_first_of_the_matrix(monkeypatch):
    # Compared block by block; the second has only zeros.
    monkeypatch.setattr(stream, "row_chunks", lambda rows, *_: [slice(0, 40), slice(40, rows)])
    matrix, x = matrix_of(80, 48), np.linspace(-1, 2, 48, dtype=np.float32)[None]
    peer = Peer(lanes=8)
    # IDENTIFY, SCALES, ACTIVATIONS, GEMV
    peer.faults = {3: replace_arguments(1, 1, 0, bytes(320))}
    run = asyncio.run(stream_matrix(Device(peer), Job(
        "layer", (80, 48), matrix.depth, lambda: tiles_of(matrix), lambda: x)))
    wrong = [row for row in range(40, 80) if gemv(matrix, quantize_activation(x)[0])[0, row]]
    assert run.mismatches == len(wrong)
    assert run.first_mismatch["row"] == wrong[0]
    assert run.first_mismatch["device"] == 0
