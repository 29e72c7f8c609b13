"""Steps of a job and the functions that run them."""

from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["PlacedStep", "Run", "SizedStep", "Step", "one_by_one"]


class Step(Protocol):
    """A unit of work: produce and write one or more tensors, return a journal record.

    The record has, under ``checksums``, the CRC-32 of each tensor by name.
    """

    def __call__(self) -> dict: ...


@runtime_checkable
class SizedStep(Protocol):
    """A step that states the number of bytes it holds at most, as ``memory``."""

    @property
    def memory(self) -> int: ...


class Target(Protocol):
    """A place in a file where a step writes a tensor."""

    @property
    def path(self) -> Path: ...


@runtime_checkable
class PlacedStep(Protocol):
    """A step that states where it writes, by tensor name, as ``places``."""

    @property
    def places(self) -> Mapping[str, Target]: ...


#: Runs steps, and yields the name and record of each step when its tensors are on the disk.
Run = Callable[[Mapping[str, Step]], Generator[tuple[str, dict], None, None]]


def one_by_one(steps: Mapping[str, Step]) -> Generator[tuple[str, dict], None, None]:
    """Run steps in their order, and yield their names and records."""
    for name, step in steps.items():
        yield name, step()
