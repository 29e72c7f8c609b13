"""What can be fuzzed: a reader, files or answers to begin with, and ways to change them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tritstream.host.errors import HostError

__all__ = ["Broken", "Mutator", "Target"]

#: Changes bytes, with what a generator draws; anything may come out.
Mutator = Callable[[bytes, Random], bytes]


class Broken(Exception):
    """A reader took what it should not, or gave something else than was in it."""


@dataclass(frozen=True)
class Target:
    """A reader of bytes.

    Members
    -------
    about : str
        What is read, in a line.
    seeds : callable
        Inputs to begin with, which are good and are read without an error.
    run : callable
        Reads an input; the directory is empty, and all that may be opened lies in it. Raises
        :class:`Broken` for a wrong result.
    mutate : Mutator
        Changes an input such that what is behind its lengths and checksums is reached too.
    seconds : float
        CPU time that a run may take.
    memory : int
        Bytes that a run may take beside 64 for each byte of the input.
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
