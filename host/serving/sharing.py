"""Products that several texts in progress compute together, in one pass over the weights.

Each text is generated in a greenlet, by the same code as a single text. A greenlet that needs a
product waits. When all wait, the vectors of those that wait for the same matrix are multiplied as
one batch. A product treats each vector on its own, so every text is the same as if it were alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.model.backends import Backend, Cost, Product, ReferenceBackend
from tritstream.host.protocol.records import Stats

__all__ = ["SharedBackend", "SharedProduct", "Text", "run_step"]


class SharedBackend(Backend):
    """Backend whose products are shared by the texts of :func:`run_step`.

    Outside of a :class:`Text`, a product is that of the inner backend. Products of
    :class:`.ReferenceBackend` are not shared: the sums of a product in floating point depend on
    the number of vectors.

    Parameters
    ----------
    inner : Backend
    """

    def __init__(self, inner: Backend):
        self._inner = inner
        self._numbers = count()

    def prepare(self, checkpoint: PackedCheckpoint, name: str) -> Product:
        """Read a matrix, and return its product: :meth:`.Backend.prepare`."""
        product = self._inner.prepare(checkpoint, name)
        if isinstance(self._inner, ReferenceBackend):
            return product
        return SharedProduct(product, next(self._numbers), self._inner.take_cost)

    def take_cost(self) -> Cost:
        """Return the cost of products outside of texts: :meth:`.Backend.take_cost`."""
        return self._inner.take_cost()


class SharedProduct:
    """Product of one matrix, for which texts wait.

    Parameters
    ----------
    product : Product
    number : int
        Place of the matrix in the model: lower numbers are multiplied first.
    take_cost : callable
        Returns the cost since its last call: :meth:`.Backend.take_cost`.
    """

    def __init__(self, product: Product, number: int, take_cost: Callable[[], Cost]):
        self._product, self.number, self._take_cost = product, number, take_cost

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply float (T, K), in a text together with other texts; return float (T, N)."""
        text = getcurrent()
        return text.wait_for(self, x) if isinstance(text, Text) else self._product(x)

    def multiply(self, texts: Sequence["Text"]) -> None:
        """Compute what texts wait for, and let each of them go on until it waits again."""
        rows = [len(text.rows) for text in texts]
        try:
            results = self._product(torch.cat([text.rows for text in texts])).split(rows)
        except Exception as error:
            self._take_cost()
            for text in texts:
                text.fail(error)
            return
        for text, result, cost in zip(texts, results, shares(self._take_cost(), rows), strict=True):
            text.cost += cost
            text.go_on(result)


class Text(greenlet):
    """A text in progress: code that waits for products, and between its passes.

    Parameters
    ----------
    run : callable
        Generates the text.

    Members
    -------
    is_begun : bool
        Whether the text has reached its first pass, or has ended.
    product : SharedProduct or None
        Product for which the text waits; None between two passes through the model.
    rows : Tensor
        Vectors to multiply, float (T, K).
    cost : Cost
        Cost on the device: a share of each product by the number of vectors.
    """

    def __init__(self, run: Callable[[], None]):
        super().__init__(run)
        self.is_begun = False
        self.product: SharedProduct | None = None
        self.rows = torch.empty(0)
        self.cost = Cost()
        self._random: Tensor | None = None

    def take_cost(self) -> Cost:
        """Return the cost since the last call."""
        cost, self.cost = self.cost, Cost()
        return cost

    def wait_for(self, product: SharedProduct, rows: Tensor) -> Tensor:
        """Wait, in this text, for a product."""
        self.product, self.rows = product, rows
        return self.parent.switch()

    def wait_for_step(self) -> None:
        """Wait, in this text, for the next step. The random numbers of the text go on then."""
        random = torch.get_rng_state()
        self.parent.switch()
        self._random = random

    def end_pass(self) -> None:
        """Continue the random numbers of this text, which other texts have changed."""
        if self._random is not None:
            torch.set_rng_state(self._random)

    def begin(self) -> None:
        """Let the text run until its first pass."""
        self.is_begun = True
        self.switch()

    def go_on(self, result: Tensor | None = None) -> None:
        """Let the text run, with the result of its product, until it waits again or ends."""
        self.product = None
        self.switch(result)

    def fail(self, error: BaseException) -> None:
        """Raise an error in the text where it waits."""
        self.product = None
        self.throw(error)


def run_step(texts: Iterable[Text]) -> None:
    """Run one pass through the model for each text."""
    waiting = list(texts)
    for text in waiting:
        text.go_on()
    while waiting := [text for text in waiting if text.product]:
        # In a mixture of experts, texts wait for different matrices: the first one in the model
        # comes first, so that texts that are ahead wait for the others.
        product = min((text.product for text in waiting if text.product), key=_number)
        product.multiply([text for text in waiting if text.product is product])


def shares(cost: Cost, rows: Sequence[int]) -> list[Cost]:
    """Divide a cost by numbers of vectors into costs whose sum is exactly the cost."""
    found, whole = [], sum(rows)
    for at, mine in enumerate(rows):
        ends = sum(rows[:at]), sum(rows[:at]) + mine
        stats = {name: value * ends[1] // whole - value * ends[0] // whole
                 for name, value in vars(cost.stats).items()}
        found.append(Cost(replace(Stats(), **stats), cost.seconds * mine / whole))
    return found


def _number(product: SharedProduct) -> int:
    return product.number
