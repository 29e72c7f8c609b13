"""Sharing of terms between several sums, for exclusive ors of four inputs."""

from collections.abc import Sequence
from functools import cache
from itertools import count

import numpy as np

__all__ = ["share_terms"]

#: Inputs of the exclusive or of which the sums are made.
_INPUTS = 4
#: Pairs of inputs that are tried as the start of a shared term.
_STARTS = 12


def share_terms(sums: Sequence[Sequence[int]],
                inputs: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return terms of two to four inputs, and the sums with these terms in place of inputs.

    A sum is a list of distinct inputs 0 .. ``inputs`` - 1. Term n has the number ``inputs + n`` in
    the returned sums. Terms have inputs only, so that they add one level to a tree of gates. A term
    is chosen while it saves gates, the best first; the result is good but not optimal.
    """
    return _shared(tuple(map(tuple, sums)), inputs)


@cache
def _shared(sums, inputs):
    left  = np.array([[bit in members for bit in range(inputs)] for members in map(set, sums)],
                     np.int32)
    terms = []
    added = [[] for _ in sums]
    for number in count(inputs):
        term, uses = _best(left)
        if term is None:
            break
        left[np.ix_(uses, term)] = 0
        terms.append(term)
        for row in np.flatnonzero(uses):
            added[row].append(number)
    return terms, [[*map(int, np.flatnonzero(row)), *more]
                   for row, more in zip(left, added, strict=True)]


def _best(left):
    """Return the inputs of the term that saves most gates, and the sums that use it, or None."""
    pairs = np.triu(left.T @ left, 1)
    best, found = 1e-9, (None, None)
    for start in np.argsort(pairs, axis=None, kind="stable")[::-1][:_STARTS]:
        term = [int(bit) for bit in np.unravel_index(start, pairs.shape)]
        uses = left[:, term].all(axis=1)
        while True:
            # A gate adds three inputs to a sum. The term itself takes one gate.
            saved = (len(term) - 1) * np.count_nonzero(uses) / (_INPUTS - 1) - 1
            if saved > best:
                best, found = saved, (list(term), uses)
            if len(term) == _INPUTS:
                break
            common = uses @ left
            common[term] = -1
            term.append(int(np.argmax(common)))
            uses = uses & (left[:, term[-1]] > 0)
    return found
