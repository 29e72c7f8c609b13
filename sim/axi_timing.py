"""Behaviour in time of the simulated memory of a channel."""

import ctypes
from dataclasses import dataclass, fields
from enum import IntEnum

__all__ = ["HBM", "PLAIN", "Cause", "Timing"]


class Cause(IntEnum):
    """Use of a cycle by a memory. If several apply, the first is reported."""

    WORD       = 0  #: a word for the core
    REFRESH    = 1  #: a refresh
    GAP        = 2  #: a random gap
    RATE       = 3  #: the data lines are slower than a word per cycle
    STALL      = 4  #: a random stall of R
    WRITE      = 5  #: a word of a response
    TURN       = 6  #: a change between reading and writing
    ROW        = 7  #: a row is opened
    LATENCY    = 8  #: words are requested, but not due
    NO_ADDRESS = 9  #: no word is requested


@dataclass(frozen=True)
class Timing:
    """Behaviour of a memory; times in cycles of the core, shares in [0, 1).

    Parameters
    ----------
    latency : int
        Cycles from an address to its first word, and from a written burst to its response.
    rate : float, optional
        Bytes per cycle that are read or written; None for a word per cycle.
    refresh_every, refresh : int
        Cycles between the starts of two refreshes, 0 for none; and cycles that one takes. A refresh
        closes all rows.
    gaps, longest_gap
        Share of the cycles in which a gap begins, and its longest length.
    banks, row, miss : int
        Number of banks, bytes of a row, and cycles that opening a row takes; 0 for no rows. Rows
        are interleaved over the banks. The memory opens the rows of two bursts ahead.
    turn : int
        Cycles that a change between reading and writing takes.
    outstanding : int
        Largest number of read bursts that the memory accepts in advance.
    stall_ar, stall_r, stall_aw, stall_w, stall_b : float
        Shares of cycles in which a channel of AXI4 pauses.
    late, latest
        Share of the bursts that take longer, and by how many cycles at most.
    slverr, decerr : float
        Shares of the bursts that are answered by an error. A word that is read with an error has
        random contents.

    Raises :class:`ValueError` if a parameter is impossible.
    """

    latency:       int = 64
    rate:          float | None = None
    refresh_every: int = 0
    refresh:       int = 0
    gaps:          float = 0.0
    longest_gap:   int = 8
    banks:         int = 16
    row:           int = 1024
    miss:          int = 0
    turn:          int = 0
    outstanding:   int = 64
    stall_ar:      float = 0.0
    stall_r:       float = 0.0
    stall_aw:      float = 0.0
    stall_w:       float = 0.0
    stall_b:       float = 0.0
    late:          float = 0.0
    latest:        int = 1
    slverr:        float = 0.0
    decerr:        float = 0.0

    def __post_init__(self) -> None:
        for name in ("latency", "longest_gap", "row", "outstanding", "latest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is float and not 0 <= value < 1:
                raise ValueError(f"{field.name} is a share in [0, 1), not {value:g}")
            if value is not None and value < 0:
                raise ValueError(f"{field.name} must not be negative, not {value}")
        if not 1 <= self.banks <= 64:
            raise ValueError(f"banks must be 1..64, not {self.banks}")
        if self.refresh_every and self.refresh >= self.refresh_every:
            raise ValueError(f"a refresh of {self.refresh} cycles leaves no time in "
                             f"{self.refresh_every}")

    def packed(self, lanes: int) -> ctypes.Array:
        """Return the parameters for sim/axi_memory.h, with words of ``lanes`` bytes."""
        values = vars(self) | {"rate": round(256 * min(self.rate or lanes, lanes))}
        shares = {field.name for field in fields(self) if field.type is float}
        return (ctypes.c_int64 * len(values))(*(
            int(value * 2**32) if name in shares else value for name, value in values.items()))


#: Latency of 300 cycles, refreshes of 7 % of the time, and gaps of 4 %.
PLAIN = Timing(latency=300, refresh_every=1950, refresh=130, gaps=0.01)

#: Pseudo channel of HBM2 for a core at 250 MHz: 14.375 GB/s, rows of 1 KB in 16 banks that take
#: 28 ns to open, and refreshes of 260 ns each 3.9 us.
HBM = Timing(latency=300, rate=57.5, refresh_every=975, refresh=65, miss=7, turn=4)
