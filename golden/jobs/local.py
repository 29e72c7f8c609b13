"""Concurrent steps of a job, as many as memory allows."""

from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from tritstream.golden.jobs.step import SizedStep, Step

__all__ = ["BUDGET", "in_flight"]

#: Largest total of bytes held by the steps in flight.
BUDGET = 1_250_000_000

#: Largest number of steps in flight. One step computes, in as many threads as there are processors,
#: while the other steps start or wait for the disk.
_STEPS = 4


def in_flight(
    steps: Mapping[str, Step], budget: int = BUDGET,
) -> Generator[tuple[str, dict], None, None]:
    """Run steps concurrently, started in their order; yield names and records as steps finish.

    ``budget`` limits the total memory, in bytes, of the :class:`.SizedStep` in flight. A step that
    needs more runs alone. A step that states no memory counts as 0. When a step fails or the
    caller closes the generator, no further step starts, and the steps in flight are waited for.
    """
    flying: dict[Future, tuple[str, int]] = {}
    pool = ThreadPoolExecutor(_STEPS)
    try:
        for name, step in steps.items():
            memory = step.memory if isinstance(step, SizedStep) else 0
            while flying and (len(flying) == _STEPS or
                              memory + sum(held for _, held in flying.values()) > budget):
                yield from _land(flying)
            flying[pool.submit(step)] = name, memory
        while flying:
            yield from _land(flying)
    finally:
        pool.shutdown(cancel_futures=True)


def _land(flying: dict[Future, tuple[str, int]]) -> Iterator[tuple[str, dict]]:
    """Wait for a step to finish; remove and yield all finished steps."""
    for future in wait(flying, return_when=FIRST_COMPLETED).done:
        name, _ = flying.pop(future)
        yield name, future.result()
