"""Steps of a job side by side, as many as memory allows."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from golden.shard_writer import Step

__all__ = ["BUDGET", "in_flight"]

#: Bytes that steps in flight may hold together.
BUDGET = 1_250_000_000

#: Steps in flight, at most: one computes, in as many threads as there are processors, while others
#: begin or wait for the disk.
_STEPS = 3


def in_flight(
    steps: Mapping[str, Step], budget: int = BUDGET,
) -> Iterator[tuple[str, dict]]:
    """Names and records of steps, in their order; several are done at a time.

    A step has ``memory``, the bytes that it holds at most; one that has more than the budget is
    done alone. When one fails, or the caller stops asking, no other begins, and those in flight
    are waited for.
    """
    flying: deque[tuple[str, int, Future]] = deque()
    pool = ThreadPoolExecutor(_STEPS)
    try:
        for name, step in steps.items():
            while flying and (len(flying) == _STEPS or
                              step.memory + sum(held for _, held, _ in flying) > budget):
                yield _land(flying)
            flying.append((name, step.memory, pool.submit(step)))
        while flying:
            yield _land(flying)
    finally:
        pool.shutdown(cancel_futures=True)


def _land(flying: deque[tuple[str, int, Future]]) -> tuple[str, dict]:
    name, _, future = flying[0]
    record = future.result()
    flying.popleft()
    return name, record
