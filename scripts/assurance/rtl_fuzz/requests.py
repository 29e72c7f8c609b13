"""Random request frames, valid and invalid, with requests to put into them."""

from collections.abc import Callable

import numpy as np

from tritstream.golden.fixed_point import GROUP, MANTISSA_BITS, MAX_DEPTH, SCALES
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import (
    BLOCK_BITS,
    LENGTH_BITS,
    GemvArguments,
    Opcode,
    longest_group,
)
from tritstream.scripts.assurance.frames import frame

__all__ = ["Requests"]

#: Arguments at which something might overflow.
_EDGES = (0, 1, 2, 15, 16, 17, 255, 256, 0xFFFF, 0x10000, 1 << 24, 1 << 31, (1 << 32) - 1)


class Requests:
    """Random requests for a device whose loads are known.

    The options ``faults`` of the methods are ``length``, ``header_fault`` and ``trailer_fault`` of
    :func:`.frame`.

    Parameters
    ----------
    config : DeviceConfig
        Build parameters of the device.
    rng : numpy.random.Generator
        Source of all random choices.
    groups : callable
        Function that returns the currently loaded groups, by column.
    """

    def __init__(self, config: DeviceConfig, rng: np.random.Generator,
                 groups: Callable[[], dict[int, int]]):
        self._config, self._rng, self._groups = config, rng, groups

    def any(self, **faults: int) -> bytes:
        """Return a request of any opcode that the device would carry out."""
        make = self._rng.choice(["identify", "status", "activations", "activations", "scales",
                                 "gemv", "gemv", "gemv", "reset"])
        return getattr(self, str(make))(**faults)

    def identify(self, **faults: int) -> bytes:
        """Return an IDENTIFY."""
        return frame(Opcode.IDENTIFY, self.sequence(), 0, 0, b"", **faults)

    def status(self, **faults: int) -> bytes:
        """Return a STATUS."""
        return frame(Opcode.STATUS, self.sequence(), 0, 0, b"", **faults)

    def reset(self, **faults: int) -> bytes:
        """Return a RESET."""
        return frame(Opcode.RESET, self.sequence(), 0, 0, b"", **faults)

    def activations(self, column: int | None = None, groups: int | None = None,
                    **faults: int) -> bytes:
        """Return activations for a column: random values, or one value for all."""
        rng = self._rng
        column = int(rng.integers(self._config.columns)) if column is None else column
        k = GROUP * (groups or self.some_groups())
        x = rng.integers(-128, 128, k).astype(np.int8)
        if rng.random() < 0.2:
            x[:] = rng.choice([-128, 127, 0, -1])
        return frame(Opcode.ACTIVATIONS, self.sequence(), column, k, x.tobytes(), **faults)

    def scales(self, **faults: int) -> bytes:
        """Return mantissas: random values, or an extreme one for all."""
        rng, most = self._rng, (1 << MANTISSA_BITS) - 1
        values = rng.integers(0, most + 1, SCALES)
        if rng.random() < 0.2:
            values[:] = rng.choice([0, 1, most])
        return frame(Opcode.SCALES, self.sequence(), payload=values.astype("<u4").tobytes(),
                     **faults)

    def gemv(self, depth: int | None = None, columns: int | None = None, blocks: int | None = None,
             groups: int | None = None, group: int | None = None, direct: bool | None = None,
             more: int = 0, **faults: int) -> bytes:
        """Return a GEMV that uses the loads, with ``more`` words than it should have.

        ``group`` is its number of chunks per group.
        """
        rng, lanes = self._rng, self._config.lanes
        depth = int(rng.integers(1, MAX_DEPTH + 1)) if depth is None else depth
        columns, groups = self._loaded(columns, groups)
        blocks = int(rng.integers(1, 5)) if blocks is None else blocks
        group = self._some_group(depth) if group is None else group
        direct = bool(rng.random() < 0.4) if direct is None else direct
        blocks %= 1 << BLOCK_BITS
        payload = GemvArguments(min(max(depth, 1), MAX_DEPTH), min(groups, 64), columns,
                                min(blocks, 8), group, direct)
        words = rng.bytes(lanes * max(payload.blocks * payload.block_words + more, 0))
        if rng.random() < 0.1:
            words = bytes([int(rng.integers(256))]) * len(words)
        arguments = GemvArguments(depth, groups, columns, blocks, group, direct)
        return frame(Opcode.GEMV, self.sequence(), *arguments.pack(), words, **faults)

    def product(self) -> bytes:
        """Return all loads and a GEMV that needs them."""
        columns, groups = int(self._rng.integers(1, self._config.columns + 1)), self.some_groups()
        loads = [self.activations(column, groups) for column in range(columns)]
        return b"".join([*loads, self.scales(), self.gemv(columns=columns, groups=groups)])

    def odd(self) -> bytes:
        """Return a frame with valid CRCs and an argument out of range."""
        rng = self._rng
        match int(rng.integers(8)):
            case 0:
                return frame(int(rng.integers(6, 256)), self.sequence(), self.edge(), self.edge(),
                             rng.bytes(int(rng.integers(0, 300))))
            case 1:
                k = int(rng.choice([0, 1, 15, 24, 40, self._config.max_k + GROUP]))
                return frame(Opcode.ACTIVATIONS, self.sequence(), 0, k, rng.bytes(k))
            case 2:
                return frame(Opcode.ACTIVATIONS, self.sequence(), self.edge(), GROUP, bytes(GROUP))
            case 3:
                values = rng.integers(0, 1 << MANTISSA_BITS, SCALES)
                values[rng.integers(SCALES)] += 1 << int(rng.integers(MANTISSA_BITS, 32))
                return frame(Opcode.SCALES, self.sequence(), self.edge(), self.edge(),
                             (values & (1 << 32) - 1).astype("<u4").tobytes())
            case 4:
                if rng.random() < 0.5:
                    return self.gemv(depth=self.edge() & 0xFF)
                return self.gemv(columns=self.edge() & 0xFF)
            case 5:
                return self.gemv(groups=self.edge() & 0xFFFF)
            case 6:
                depth = int(rng.integers(1, MAX_DEPTH + 1))
                most = longest_group(depth)
                longer = int(rng.integers(1, 1 + (1 << LENGTH_BITS)))
                group = int(rng.choice([most, most + 1, longer]))
                return self.gemv(depth, group=group)
            case _:
                return self.gemv(blocks=self.edge())

    def wrong_length(self) -> bytes:
        """Return a frame whose payload does not fit its opcode and arguments."""
        rng = self._rng
        kind, size = int(rng.integers(4)), int(rng.integers(0, 400))
        if kind == 0:
            return frame(int(rng.integers(6)), self.sequence(), self.edge(), self.edge(),
                         rng.bytes(size))
        if kind == 1:
            return frame(Opcode.SCALES, self.sequence(), 0, 0, bytes(4 * int(rng.integers(20, 34))))
        return self.gemv(more=int(rng.integers(-70, 71)))

    def sequence(self) -> int:
        """Return a random sequence number."""
        return int(self._rng.integers(256))

    def edge(self) -> int:
        """Return an argument at which something might overflow."""
        return int(self._rng.choice(_EDGES))

    def some_groups(self) -> int:
        """Return a number of groups: mostly few, sometimes many."""
        most = min(self._config.max_k // GROUP, 200 if self._rng.random() < 0.02 else 6)
        return int(self._rng.integers(1, most + 1))

    def _some_group(self, depth: int) -> int:
        """Return chunks per group: one, few or many."""
        most = longest_group(depth) if 1 <= depth <= MAX_DEPTH else 1
        few, many = (int(self._rng.integers(1, top + 1)) for top in (min(most, 4), most))
        return int(self._rng.choice([1, few, many]))

    def _loaded(self, columns: int | None, groups: int | None) -> tuple[int, int]:
        """Return columns and groups of a GEMV; by default the loaded groups."""
        loaded = self._groups()
        if columns is None:
            columns = int(self._rng.integers(1, self._config.columns + 1))
        return columns, loaded.get(0, 2) if groups is None else groups
