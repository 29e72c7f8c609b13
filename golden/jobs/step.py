"""Steps of a job and the functions that run them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

__all__ = ["Run", "Step", "one_by_one"]


class Step(Protocol):
    """What makes one tensor or some, writes them, and says what it did.

    It returns a record for the journal: under ``checksums``, the CRC-32 of each tensor by name.
    """

    def __call__(self) -> dict: ...


#: Does steps, of which it gives each name and record when it is on the disk.
Run = Callable[[Mapping[str, Step]], Iterator[tuple[str, dict]]]


def one_by_one(steps: Mapping[str, Step]) -> Iterator[tuple[str, dict]]:
    """Names and records of steps, done in their order."""
    for name, step in steps.items():
        yield name, step()
