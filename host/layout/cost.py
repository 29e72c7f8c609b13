"""Compute the cost of a product without sending it: words, bytes both ways, cycles.

The figures hold if the source always has a word and the sink always takes one. They are exact:
``tritstream dev bench layout --check`` compares them with the RTL.
"""

from dataclasses import dataclass, fields

from tritstream.golden.fixed_point import GROUP, MAX_K, ROWS, SCALES, row_tiles
from tritstream.host.layout.folding import CODES, ScaleWords, pieces
from tritstream.host.layout.prepare import FRAME_BYTES, cuts
from tritstream.host.layout.shapes import ModelShape, WeightForm
from tritstream.host.protocol.frames import answer_bytes, padded
from tritstream.host.transports.base import FOLD_WORDS
from tritstream.hw.protocol import DONE_FIELDS, REQUEST_ALIGN, SUM_BYTES

__all__ = ["Cost", "activations_cost", "gemv_cost", "gemv_cycles", "loads_activations",
           "model_cost", "product_cost", "scales_cost"]

#: Cycles from a block's last word to the header of its RESULT (datapath, bank, header CRC), plus
#: those from the last word of the last RESULT to the end of the frame.
_TAIL = 50
#: Cycles between the last word of a RESULT and the first word of the next one.
_GAP = 3
#: Modules that need a new load of activations; the others share one of these loads.
_LOADING = ("self_attn.q_proj", "self_attn.o_proj", "linear_attn.in_proj_qkv",
            "linear_attn.out_proj", "mlp.gate_proj", "mlp.down_proj", "lm_head")


@dataclass(frozen=True)
class Cost:
    """Cost of a product or a load.

    Members
    -------
    words : int
        Payload words of GEMV frames.
    cycles : int
        Cycles of GEMV frames as DONE counts them, from the first payload word to the last RESULT.
    sent, received : int
        Bytes to the device and from it, including frame overhead and padding.
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


def gemv_cycles(
    lanes: int, depth: int, groups: int, blocks: int, columns: int = 1, scales: ScaleWords = CODES,
) -> int:
    """Return the cycles of one GEMV frame.

    A block takes a cycle per word, or as many as the RESULTs of the previous block if they take
    longer. A constant and the RESULTs of the last block are added. ``groups`` are units of 16
    columns.
    """
    block   = scales.block_words(depth, groups)
    results = columns * (answer_bytes(SUM_BYTES * ROWS * lanes, lanes) // lanes + _GAP)
    return block + (blocks - 1) * max(block, results) + _TAIL + results


def gemv_cost(
    shape: tuple[int, int], depth: int, lanes: int, columns: int = 1, max_k: int = MAX_K,
    fold_words: int | None = FOLD_WORDS, frame_bytes: int = FRAME_BYTES,
    scales: ScaleWords = CODES,
) -> Cost:
    """Return the cost of a matrix (N, K) times ``columns`` vectors in one pass, without loads.

    The other arguments are those of :func:`.prepare` and :class:`.Device`. ``scales`` are those of
    :func:`.scale_words`.
    """
    total = Cost()
    for piece in pieces(row_tiles(shape[0]), -(-shape[1] // GROUP), depth, lanes, max_k,
                        fold_words, scales):
        low, groups, blocks = piece.size(depth, lanes)
        words = scales.block_words(low, groups)
        for _, count in cuts(blocks, words * lanes, frame_bytes):
            total += Cost(
                count * words, gemv_cycles(lanes, low, groups, count, columns, scales),
                _request(count * words * lanes),
                count * columns * answer_bytes(SUM_BYTES * ROWS * lanes, lanes)
                + answer_bytes(8 * len(DONE_FIELDS), lanes))
    return total


def activations_cost(k: int, lanes: int) -> Cost:
    """Return the cost of loading one vector of K activations."""
    return Cost(sent=_request(padded(k, GROUP)), received=answer_bytes(0, lanes))


def scales_cost(lanes: int) -> Cost:
    """Return the cost of loading a scale table."""
    return Cost(sent=_request(4 * SCALES), received=answer_bytes(0, lanes))


def product_cost(
    shape: tuple[int, int], form: WeightForm, lanes: int, fold_words: int | None = FOLD_WORDS,
) -> Cost:
    """Return the cost of a matrix (N, K) of a form, with its scale table if it has one."""
    cost = gemv_cost(shape, form.depth, lanes, fold_words=fold_words,
                     scales=form.scale_words(shape[1]))
    return cost if form.direct else cost + scales_cost(lanes)


def loads_activations(module: str) -> bool:
    """Whether a module needs a load of activations of its own."""
    return module in _LOADING


def model_cost(model: ModelShape, lanes: int, fold_words: int | None = FOLD_WORDS) -> Cost:
    """Return the cost of all packed matrices for one token, with all loads."""
    total = Cost()
    for (module, shape), count in model.modules().items():
        total += product_cost(shape, model.form, lanes, fold_words) * count
        if loads_activations(module):
            total += activations_cost(shape[1], lanes) * count
    return total


def _request(payload: int) -> int:
    """Return the bytes of a request: header, payload, trailer."""
    return 2 * REQUEST_ALIGN + padded(payload, REQUEST_ALIGN)
