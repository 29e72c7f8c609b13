"""The profile `tritllm-v2` one number at a time, which the vectorized one must equal."""

import math

import numpy as np

from tritstream.golden.matrix import dequantize

__all__ = ["HALF", "F", "Scalar"]

F = np.float32
HALF = {1: 1, 2: 4, 3: 13, 4: 40}


class Scalar:
    """The profile one number at a time; ``keep_first`` keeps the digits of the uncoded scale."""

    def __init__(self, weights, depth, keep_first=False):
        self.h = HALF[depth]
        with np.errstate(over="ignore", under="ignore"):
            rows = [self.groups(row) for row in weights.tolist()]
            chosen = [[self.choose(g) for g in groups] for groups in rows]
            self.table, edges = self.table_of([s for row in chosen for s in row if s > 0])
            self.codes = [[sum(1 for edge in edges if edge < float(s)) if s > 0 else 0
                           for s in row] for row in chosen]
            self.q = []
            for groups, scales, codes in zip(rows, chosen, self.codes, strict=True):
                self.q.append([])
                for g, s, code in zip(groups, scales, codes, strict=True):
                    coded = s if keep_first or s == 0 else self.table[code]
                    self.q[-1] += [self.level(w, coded) for w in g]
            self.weights = [[self.rec(self.table[codes[k // 16]], q) for k, q in enumerate(row)]
                            for row, codes in zip(self.q, self.codes, strict=True)]
        self.columns = weights.shape[1]

    def groups(self, row):
        row = [F(w) for w in row] + [F(0)] * (-len(row) % 16)
        return [row[k:k + 16] for k in range(0, len(row), 16)]

    def level(self, w, s):
        if s == 0:
            return 0
        ratio = min(max(w / s, F(-1)), F(1))
        return round(float(ratio * F(self.h)))

    def rec(self, s, q):
        return s * F(q) / F(self.h)

    def error(self, g, s):
        e = F(0)
        for w in g:
            t = w - self.rec(s, self.level(w, s))
            e = e + t * t
        return e

    def choose(self, g):
        ascending = sorted(abs(w) for w in g)
        best, least = None, None
        for place in (10, 12, 14, 15):
            e = self.error(g, ascending[place])
            if best is None or e < least:
                best, least = ascending[place], e
        return best

    def table_of(self, scales):
        if not scales:
            return [F(1)] * 27, []
        low, high = math.log(float(min(scales))), math.log(float(max(scales)))
        step = (high - low) / 26
        table = [F(math.exp(low + step * k)) for k in range(27)]
        edges = [math.exp(low + step * (k + 0.5)) for k in range(26)]
        return table, edges if high > low else []

    def check(self, matrix):
        """Same integers, codes and bytes of table and weights."""
        assert matrix.table.tobytes() == np.array(self.table, F).tobytes()
        for name, wanted in (("codes", self.codes), ("q", self.q)):
            found = getattr(matrix, name)
            for n, k in np.argwhere(found != np.array(wanted)):
                raise AssertionError(f"{name} [{n}, {k}]: {found[n, k]}, not {wanted[n][k]}")
        weights = np.array(self.weights, F)[:, :self.columns]
        with np.errstate(over="ignore"):
            found = dequantize(matrix)
        # As numbers: the integers have no negative zero, a float32 product has.
        np.testing.assert_array_equal(found, weights)
