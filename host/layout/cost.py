"""What a product costs, computed: words, bytes both ways, cycles. Nothing is sent for it.

The figures are those of a source that always has a word and of a sink that always takes one, and
are exact: ``tritstream dev bench layout --check`` compares them with the RTL.
"""

from dataclasses import dataclass, fields
from functools import reduce
from operator import add

from tritstream.golden.fixed_point import GROUP, MAX_K, ROWS, SCALES, row_tiles, tile_bytes
from tritstream.golden.model_sizes import Sizes
from tritstream.host.layout.folding import FOLD_WORDS, pieces
from tritstream.host.layout.prepare import FRAME_BYTES, cuts
from tritstream.host.protocol.frames import answer_bytes, padded
from tritstream.hw.protocol import DONE_FIELDS, REQUEST_ALIGN, SUM_BYTES

__all__ = ["Cost", "activations_cost", "gemv_cost", "gemv_cycles", "model_cost",
           "scales_cost"]

#: Cycles from a block's last word to the header of its RESULT: datapath, bank, header CRC; and to
#: the end of the frame behind its last word.
_TAIL = 50
#: Cycles between the words of one RESULT and the next.
_GAP = 3
#: Modules of a layer that begin a load of activations; the others share one with them.
_LOADING = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")


@dataclass(frozen=True)
class Cost:
    """What a product or a load costs.

    Members
    -------
    words : int
        Payload words of GEMV frames.
    cycles : int
        Of GEMV frames, as DONE counts them: from the first payload word to the last RESULT.
    sent, received : int
        Bytes to the device and from it, frames and padding and all.
    """

    words:    int = 0
    cycles:   int = 0
    sent:     int = 0
    received: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, field.name) + getattr(other, field.name)
                      for field in fields(self)))

    def __mul__(self, times: int) -> "Cost":
        return Cost(*(times * getattr(self, field.name) for field in fields(self)))


def gemv_cycles(lanes: int, depth: int, groups: int, blocks: int, columns: int = 1) -> int:
    """Cycles of one GEMV frame.

    A block takes ``groups * (16d + 3)`` cycles, or as many as the RESULTs of the block before it
    where these are longer; after the last block come a constant and its RESULTs.
    """
    block   = groups * tile_bytes(depth)
    results = columns * (answer_bytes(SUM_BYTES * ROWS * lanes, lanes) // lanes + _GAP)
    return block + (blocks - 1) * max(block, results) + _TAIL + results


def gemv_cost(
    shape: tuple[int, int], depth: int, lanes: int, columns: int = 1, max_k: int = MAX_K,
    fold_words: int | None = FOLD_WORDS, frame_bytes: int = FRAME_BYTES,
) -> Cost:
    """A product of a matrix (N, K) with ``columns`` vectors in one pass, without the loads.

    The other arguments are those of :func:`.prepare` and :class:`.Device`.
    """
    total = Cost()
    for piece in pieces(row_tiles(shape[0]), -(-shape[1] // GROUP), depth, lanes, max_k,
                        fold_words):
        low, groups, blocks = piece.size(depth, lanes)
        words = groups * tile_bytes(low)
        for _, count in cuts(blocks, words * lanes, frame_bytes):
            total += Cost(
                count * words, gemv_cycles(lanes, low, groups, count, columns),
                _request(count * words * lanes),
                count * columns * answer_bytes(SUM_BYTES * ROWS * lanes, lanes)
                + answer_bytes(8 * len(DONE_FIELDS), lanes))
    return total


def activations_cost(k: int, lanes: int) -> Cost:
    """A load of one vector of K activations."""
    return Cost(sent=_request(padded(k, GROUP)), received=answer_bytes(0, lanes))


def scales_cost(lanes: int) -> Cost:
    """A load of a scale table."""
    return Cost(sent=_request(4 * SCALES), received=answer_bytes(0, lanes))


def model_cost(sizes: Sizes, depth: int, lanes: int, fold_words: int | None = FOLD_WORDS) -> Cost:
    """All linear layers of a model for one token, with every load of activations and scales."""
    shapes = sizes.linear()
    costs  = [gemv_cost(shape, depth, lanes, fold_words=fold_words) + scales_cost(lanes)
              for shape in shapes.values()]
    loads  = [activations_cost(shapes[name][1], lanes) for name in _LOADING]
    return reduce(add, costs + loads) * sizes.layers


def _request(payload: int) -> int:
    """Bytes of a request: header, payload, trailer."""
    return 2 * REQUEST_ALIGN + padded(payload, REQUEST_ALIGN)
