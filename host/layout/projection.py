"""What a board could do with a model: memory, tokens a second; computed, not measured on one."""

from dataclasses import dataclass

from tritstream.golden.fixed_point import ROWS, row_blocks
from tritstream.golden.model_sizes import QWEN25, Sizes
from tritstream.host.layout.cost import gemv_cost

__all__ = ["MODELS", "Projection", "project"]

#: Models by name; up to 3B the head is the embedding, and a head that is packed is stored as well.
MODELS = {
    "SmolLM2-135M": Sizes(30, 576, 1536, 9, 3, 64, 49152),
    **{f"Qwen2.5-{name}": sizes for name, sizes in QWEN25.items()},
}

#: Bytes that do not hold weights: directory, requests, answers.
_KEPT = (1 << 18) + (1 << 18) + (1 << 20)
#: Frames around activations, headers and trailers, scales: bytes for each matrix.
_FRAMES = 192 + 128 + 256
_SUM_WORDS = 2


@dataclass(frozen=True)
class Projection:
    """One model on one board at one depth.

    Members
    -------
    layers, head : int
        Bytes of the linear layers and of the head, as words of the board's lanes.
    fits, fits_with_head : bool
        Whether that is no more than the memory holds.
    seconds, head_seconds : float
        A token's pass over them at the share of bandwidth.
    link_seconds, head_link_seconds : float
        Activations to the board and row sums back, of the layers and of the head; 0 without a rate.
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
        """Tokens a second with the head on the host, which reads its own memory for that."""
        return 1 / (self.seconds + self.link_seconds)

    @property
    def tokens_with_head(self) -> float:
        """Tokens a second with the head on the board at the same depth."""
        return 1 / (self.seconds + self.head_seconds + self.link_seconds + self.head_link_seconds)


def project(
    sizes: Sizes, depth: int, lanes: int, memory: int, rate: float,
    write: float = 0.0, read: float = 0.0,
) -> Projection:
    """Project a model.

    Parameters
    ----------
    sizes : Sizes
    depth, lanes : int
    memory : int
        Bytes of the board's memory.
    rate : float
        Bytes of weights a second that reach the lanes.
    write, read : float
        Seconds that a word of 32 bits takes to and from the board's memory.
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


def _bytes(shape, depth, lanes):
    """Words of a matrix, row blocks filled up: boards do not fold."""
    return lanes * gemv_cost(shape, depth, lanes, fold_words=None).words


def _link(inputs, matrices, rows, lanes, write, read):
    """Seconds for the inputs and frames of some matrices, and for the sums of their rows."""
    blocks = row_blocks(rows, lanes)
    return ((inputs + matrices * _FRAMES) / 4 * write
            + blocks * (ROWS * lanes * _SUM_WORDS + 10) * read)
