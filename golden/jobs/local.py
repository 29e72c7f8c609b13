"""Steps of a job side by side, as many as memory allows."""

from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from tritstream.golden.jobs.step import Step

__all__ = ["BUDGET", "in_flight"]

#: Bytes that steps in flight may hold together.
BUDGET = 1_250_000_000

#: Steps in flight, at most: one computes, in as many threads as there are processors, while others
#: begin or wait for the disk.
_STEPS = 4


def in_flight(
    steps: Mapping[str, Step], budget: int = BUDGET,
) -> Iterator[tuple[str, dict]]:
    """Names and records of steps, as they are done; several are in flight, begun in their order.

    A step has ``memory``, the bytes that it holds at most; one that has more than the budget is
    done alone. When one fails, or the caller stops asking, no other begins, and those in flight
    are waited for.
    """
    flying: dict[Future, tuple[str, int]] = {}
    pool = ThreadPoolExecutor(_STEPS)
    try:
        for name, step in steps.items():
            while flying and (len(flying) == _STEPS or
                              step.memory + sum(held for _, held in flying.values()) > budget):
                yield from _land(flying)
            flying[pool.submit(step)] = name, step.memory
        while flying:
            yield from _land(flying)
    finally:
        pool.shutdown(cancel_futures=True)


def _land(flying: dict[Future, tuple[str, int]]) -> Iterator[tuple[str, dict]]:
    """Those that are done, at least one."""
    for future in wait(flying, return_when=FIRST_COMPLETED).done:
        name, _ = flying.pop(future)
        yield name, future.result()
