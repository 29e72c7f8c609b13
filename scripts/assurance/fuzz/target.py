"""Definition of a fuzz target: a reader, seeds, and a function that changes inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tritstream.host.errors import HostError

__all__ = ["Broken", "Mutator", "Target"]

#: Returns changed bytes. The generator makes all random choices.
Mutator = Callable[[bytes, Random], bytes]


class Broken(Exception):
    """A reader accepted invalid input, or returned something that is not in the input."""


@dataclass(frozen=True)
class Target:
    """A reader of bytes.

    Members
    -------
    about : str
        One line that says what is read.
    seeds : callable
        Function that returns valid inputs, which are read without an error.
    run : callable
        Function that reads an input. It may open only files in the given directory, which is
        empty. Raises :class:`Broken` if the result is wrong.
    mutate : Mutator
        Function that changes an input. Some changes keep lengths and checksums valid.
    seconds : float
        Largest CPU time of a run.
    memory : int
        Largest memory of a run in bytes, in addition to 64 per byte of the input.
    expected : tuple
        Documented exceptions.
    """

    about:    str
    seeds:    Callable[[], list[bytes]]
    run:      Callable[[bytes, Path], None]
    mutate:   Mutator
    seconds:  float = 5.0
    memory:   int = 1 << 28
    expected: tuple[type[Exception], ...] = (ValueError, OSError, HostError)
