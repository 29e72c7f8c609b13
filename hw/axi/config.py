"""Build parameters of the memory-mapped core."""

from dataclasses import dataclass, field
from operator import index

from tritstream.hw.config import DeviceConfig
from tritstream.hw.soc.registers import UNIT

__all__ = ["MAX_CHANNELS", "PAGE", "AxiConfig"]

#: Largest number of channels: one bit each in a register.
MAX_CHANNELS = 32
#: Bytes of a page, whose end no burst of AXI crosses.
PAGE = 4096

_LANES = (8, 16, 32, 64)
_MAX_BURST, _MAX_OUTSTANDING, _MAX_DEPTH = 256, 64, 1 << 14


@dataclass(frozen=True)
class AxiConfig:
    """Parameters of a ``tritstream_axi``.

    Parameters
    ----------
    device : DeviceConfig
        Engine of each channel, with 8, 16, 32 or 64 lanes. The data bus of a channel has
        ``8 * lanes`` bits.
    channels : int
        Number of channels, 1..32. Each has an engine, a read master and a write master.
    burst : int
        Largest number of beats per burst, a power of two up to 256. A burst has 64 to 4096 bytes.
    outstanding : int
        Largest number of outstanding read bursts per channel, 1..64.
    depth : int
        Words that are requested or buffered per channel. Full rate needs more words than the
        memory takes cycles for a burst.

    Raises
    ------
    ValueError
        A parameter is out of range.
    TypeError
        A parameter is not an integer.
    """

    device:      DeviceConfig = field(default_factory=DeviceConfig)
    channels:    int = 1
    burst:       int = 64
    outstanding: int = 16
    depth:       int = 512

    def __post_init__(self) -> None:
        lanes = self.device.lanes
        if lanes not in _LANES:
            raise ValueError(f"a channel has 8, 16, 32 or 64 lanes, not {lanes}")
        if not 1 <= index(self.channels) <= MAX_CHANNELS:
            raise ValueError(f"channels must be 1..{MAX_CHANNELS}, not {self.channels}")
        fewest, most = UNIT // lanes, min(_MAX_BURST, PAGE // lanes)
        if not fewest <= index(self.burst) <= most or self.burst & (self.burst - 1):
            raise ValueError(f"a burst of {lanes} lanes must be a power of two from {fewest} to "
                             f"{most} beats, not {self.burst}")
        if not 1 <= index(self.outstanding) <= _MAX_OUTSTANDING:
            raise ValueError(f"outstanding bursts must be 1..{_MAX_OUTSTANDING}, not "
                             f"{self.outstanding}")
        if not 2 * self.burst <= index(self.depth) <= _MAX_DEPTH:
            raise ValueError(f"the buffer must hold two bursts to {_MAX_DEPTH} words, not "
                             f"{self.depth}")

    @property
    def lanes(self) -> int:
        """Bytes per beat of a data bus."""
        return self.device.lanes
