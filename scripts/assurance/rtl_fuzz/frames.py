"""Request frames, right and wrong, and jobs to put into them."""

from struct import pack
from zlib import crc32

import numpy as np

from tritstream.golden.fixed_point import GROUP, MANTISSA_BITS, MAX_DEPTH, SCALES, tile_bytes
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import MAGIC, REQUEST_ALIGN, Opcode

__all__ = ["Requests", "frame", "padded"]

#: Arguments at which something might overflow.
_EDGES = (0, 1, 2, 15, 16, 17, 255, 256, 0xFFFF, 0x10000, 1 << 24, 1 << 31, (1 << 32) - 1)


def padded(data: bytes, size: int = REQUEST_ALIGN) -> bytes:
    """``data`` with zeros up to a multiple of ``size``."""
    return data + bytes(-len(data) % size)


def frame(opcode: int, sequence: int, arg0: int = 0, arg1: int = 0, payload: bytes = b"", *,
          length: int | None = None, header_fault: int = 0, trailer_fault: int = 0) -> bytes:
    """A request; ``length`` is told in place of the payload's, faults are added to its CRCs."""
    told = len(payload) if length is None else length
    fields = pack("<HBBIII", MAGIC, opcode, sequence, arg0, arg1, told)
    covered = padded(fields + pack("<I", crc32(fields) ^ header_fault)) + padded(payload)
    return covered + padded(pack("<I", crc32(covered) ^ trailer_fault))


class Requests:
    """Random requests for a device of which is known what it has loaded.

    Parameters
    ----------
    config : DeviceConfig
    rng : numpy.random.Generator
    groups : callable
        Groups loaded, by column, as they are now.
    """

    def __init__(self, config: DeviceConfig, rng, groups):
        self._config, self._rng, self._groups = config, rng, groups

    def any(self, **faults) -> bytes:
        """A request of any opcode that the device would carry out."""
        make = self._rng.choice(["identify", "status", "activations", "activations", "scales",
                                 "gemv", "gemv", "gemv", "reset"])
        return getattr(self, str(make))(**faults)

    def identify(self, **faults) -> bytes:
        return frame(Opcode.IDENTIFY, self.sequence(), **faults)

    def status(self, **faults) -> bytes:
        return frame(Opcode.STATUS, self.sequence(), **faults)

    def reset(self, **faults) -> bytes:
        return frame(Opcode.RESET, self.sequence(), **faults)

    def activations(self, column: int | None = None, groups: int | None = None, **faults) -> bytes:
        """Activations of a column, any values or all alike."""
        rng = self._rng
        column = int(rng.integers(self._config.columns)) if column is None else column
        k = GROUP * (groups or self.some_groups())
        x = rng.integers(-128, 128, k).astype(np.int8)
        if rng.random() < 0.2:
            x[:] = rng.choice([-128, 127, 0, -1])
        return frame(Opcode.ACTIVATIONS, self.sequence(), column, k, x.tobytes(), **faults)

    def scales(self, **faults) -> bytes:
        """Mantissas, any values or extreme ones."""
        rng, most = self._rng, (1 << MANTISSA_BITS) - 1
        values = rng.integers(0, most + 1, SCALES)
        if rng.random() < 0.2:
            values[:] = rng.choice([0, 1, most])
        return frame(Opcode.SCALES, self.sequence(), payload=values.astype("<u4").tobytes(),
                     **faults)

    def gemv(self, depth: int | None = None, columns: int | None = None, blocks: int | None = None,
             groups: int | None = None, more: int = 0, **faults) -> bytes:
        """A product with what is loaded, if anything is; ``more`` words than it should have."""
        rng, lanes = self._rng, self._config.lanes
        depth = int(rng.integers(1, MAX_DEPTH + 1)) if depth is None else depth
        columns, groups = self._loaded(columns, groups)
        blocks = int(rng.integers(1, 5)) if blocks is None else blocks
        right = min(blocks, 8) * min(groups, 64) * tile_bytes(min(max(depth, 1), MAX_DEPTH))
        words = rng.bytes(lanes * max(right + more, 0))
        if rng.random() < 0.1:
            words = bytes([int(rng.integers(256))]) * len(words)
        return frame(Opcode.GEMV, self.sequence(), depth | groups << 8 | columns << 24, blocks,
                     words, **faults)

    def product(self) -> bytes:
        """All loads and a GEMV that needs them."""
        columns, groups = int(self._rng.integers(1, self._config.columns + 1)), self.some_groups()
        loads = [self.activations(column, groups) for column in range(columns)]
        return b"".join([*loads, self.scales(), self.gemv(columns=columns, groups=groups)])

    def odd(self) -> bytes:
        """A frame in whose header something is out of range, but not its CRCs."""
        rng = self._rng
        match int(rng.integers(7)):
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
                return self.gemv(**{str(rng.choice(["depth", "columns"])): self.edge() & 0xFF})
            case 5:
                return self.gemv(groups=self.edge() & 0xFFFF)
            case _:
                return self.gemv(blocks=self.edge())

    def wrong_length(self) -> bytes:
        """A frame whose payload is another than its opcode and arguments ask for."""
        rng = self._rng
        kind, size = int(rng.integers(4)), int(rng.integers(0, 400))
        if kind == 0:
            return frame(int(rng.integers(6)), self.sequence(), self.edge(), self.edge(),
                         rng.bytes(size))
        if kind == 1:
            return frame(Opcode.SCALES, self.sequence(), 0, 0, bytes(4 * int(rng.integers(20, 34))))
        return self.gemv(more=int(rng.integers(-70, 71)))

    def sequence(self) -> int:
        return int(self._rng.integers(256))

    def edge(self) -> int:
        """An argument at which something might overflow."""
        return int(self._rng.choice(_EDGES))

    def some_groups(self) -> int:
        """Groups of a vector: few, and now and then many."""
        most = min(self._config.max_k // GROUP, 200 if self._rng.random() < 0.02 else 6)
        return int(self._rng.integers(1, most + 1))

    def _loaded(self, columns, groups) -> tuple[int, int]:
        """Columns and groups of a GEMV: those loaded, where they are not told."""
        loaded = self._groups()
        if columns is None:
            columns = int(self._rng.integers(1, self._config.columns + 1))
        return columns, loaded.get(0, 2) if groups is None else groups
