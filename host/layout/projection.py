"""Projected memory and tokens per second of a model on a board; computed, not measured."""

from dataclasses import dataclass

from tritstream.golden.fixed_point import ROWS, row_blocks
from tritstream.golden.model_sizes import QWEN25, Sizes
from tritstream.host.layout.cost import gemv_cost

__all__ = ["MODELS", "Projection", "project"]

#: Models by name. Up to 3B the head is the embedding; a packed head is stored in addition to it.
MODELS = {
    "SmolLM2-135M": Sizes(30, 576, 1536, 9, 3, 64, 49152),
    **{f"Qwen2.5-{name}": sizes for name, sizes in QWEN25.items()},
}

#: Bytes of memory that do not hold weights: directory, requests, responses.
_KEPT = (1 << 18) + (1 << 18) + (1 << 20)
#: Bytes per matrix of frame overhead: around activations, around words, and a load of scales.
_FRAMES = 192 + 128 + 256
_SUM_WORDS = 2


@dataclass(frozen=True)
class Projection:
    """One model on one board at one depth.

    Members
    -------
    layers, head : int
        Bytes of the linear layers and of the head, as word streams for the board's lanes.
    fits, fits_with_head : bool
        Whether the layers, and the layers with the head, fit the memory.
    seconds, head_seconds : float
        Seconds per token to stream the layers, and the head, at the given rate.
    link_seconds, head_link_seconds : float
        Seconds per token for activations to the board and row sums back; 0 without link times.
    """

    layers:            int
    head:              int
    fits:              bool
    fits_with_head:    bool
    seconds:           float
    head_seconds:      float
    link_seconds:      float
    head_link_seconds: float

    @property
    def tokens(self) -> float:
        """Tokens per second if the host computes the head from its own memory."""
        return 1 / (self.seconds + self.link_seconds)

    @property
    def tokens_with_head(self) -> float:
        """Tokens per second with the head on the board at the same depth."""
        return 1 / (self.seconds + self.head_seconds + self.link_seconds + self.head_link_seconds)


def project(
    sizes: Sizes, depth: int, lanes: int, memory: int, rate: float,
    write: float = 0.0, read: float = 0.0,
) -> Projection:
    """Project memory and speed of a model on a board.

    Parameters
    ----------
    sizes : Sizes
        Sizes of the model.
    depth, lanes : int
        Trits per weight, and lanes of the board.
    memory : int
        Bytes of the board's memory.
    rate : float
        Bytes of weights per second that reach the lanes.
    write, read : float
        Seconds per 32-bit word to and from the board's memory.
    """
    shapes = list(sizes.linear().values())
    layers = sizes.layers * sum(_bytes(shape, depth, lanes) for shape in shapes)
    head   = _bytes((sizes.vocabulary, sizes.hidden), depth, lanes)
    # Q, K and V share their input, and so do gate and up.
    inputs = 3 * sizes.hidden + sizes.intermediate
    link   = sizes.layers * _link(inputs, len(shapes), sum(rows for rows, _ in shapes), lanes,
                                  write, read)
    return Projection(
        layers, head, layers <= memory - _KEPT, layers + head <= memory - _KEPT,
        layers / rate, head / rate, link,
        _link(sizes.hidden, 1, sizes.vocabulary, lanes, write, read))


def _bytes(shape: tuple[int, int], depth: int, lanes: int) -> int:
    """Return the bytes of a matrix with padded row blocks, because boards do not fold."""
    return lanes * gemv_cost(shape, depth, lanes, fold_words=None).words


def _link(inputs: int, matrices: int, rows: int, lanes: int, write: float, read: float) -> float:
    """Return the seconds for the inputs and frames of some matrices, and for their row sums."""
    blocks = row_blocks(rows, lanes)
    return ((inputs + matrices * _FRAMES) / 4 * write
            + blocks * (ROWS * lanes * _SUM_WORDS + 10) * read)
