"""Projected memory and tokens per second of a model on a board; computed, not measured."""

from dataclasses import dataclass

from tritstream.golden.fixed_point import ROWS, row_blocks
from tritstream.golden.model_sizes import Sizes
from tritstream.host.layout.cost import loads_activations, product_cost
from tritstream.host.layout.shapes import SHAPES, ModelShape, WeightForm

__all__ = ["MODELS", "Projection", "project"]

#: Models by name, which are projected at each depth. A packed head is stored in addition to the
#: embedding.
MODELS = {
    "SmolLM2-135M": ModelShape("SmolLM2-135M", Sizes(30, 576, 1536, 9, 3, 64, 49152),
                               WeightForm()),
    **{shape.name: shape for name, shape in SHAPES.items() if name.startswith("qwen2.5-")},
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
    model: ModelShape, lanes: int, memory: float, rate: float,
    write: float = 0.0, read: float = 0.0,
) -> Projection:
    """Project memory and speed of a model on a board.

    Parameters
    ----------
    model : ModelShape
        Sizes of the model and form of its weights.
    lanes : int
        Lanes of the board.
    memory : float
        Bytes of the board's memory.
    rate : float
        Bytes of weights per second that reach the lanes.
    write, read : float
        Seconds per 32-bit word to and from the board's memory.
    """
    layers = sum(count * _bytes(shape, model.form, lanes)
                 for count, shapes in model.layers() for shape in shapes.values())
    head = _bytes(model.head, model.form, lanes)
    link = sum(count * _link(shapes, lanes, write, read) for count, shapes in model.layers())
    return Projection(
        layers, head, layers <= memory - _KEPT, layers + head <= memory - _KEPT,
        layers / rate, head / rate, link, _link({"lm_head": model.head}, lanes, write, read))


def _bytes(shape: tuple[int, int], form: WeightForm, lanes: int) -> int:
    """Return the bytes of a matrix with padded row blocks, because boards do not fold."""
    return lanes * product_cost(shape, form, lanes, fold_words=None).words


def _link(shapes: dict[str, tuple[int, int]], lanes: int, write: float, read: float) -> float:
    """Return the seconds for the inputs and frames of some matrices, and for their row sums."""
    inputs = sum(columns for name, (_, columns) in shapes.items() if loads_activations(name))
    blocks = row_blocks(sum(rows for rows, _ in shapes.values()), lanes)
    return ((inputs + len(shapes) * _FRAMES) / 4 * write
            + blocks * (ROWS * lanes * _SUM_WORDS + 10) * read)
