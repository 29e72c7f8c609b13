"""Build parameters of a device."""

from dataclasses import dataclass
from operator import index

from tritstream.golden.fixed_point import GROUP, MAX_K

__all__ = ["LANE_COUNTS", "MAX_COLUMNS", "DeviceConfig"]

LANE_COUNTS = (1, 2, 4, 8, 16, 32, 64)
#: The GEMV header counts columns in eight bits.
MAX_COLUMNS = 255


@dataclass(frozen=True)
class DeviceConfig:
    """Parameters that are fixed when a device is built. All others are fields of a request.

    Parameters
    ----------
    lanes : int
        Bytes per word, which is also the number of row tiles processed in parallel. One of
        :data:`LANE_COUNTS`.
    columns : int
        Largest number of activation vectors that a GEMV multiplies in one pass over the weights,
        1..255.
    max_k : int
        Largest number of elements per activation vector, a multiple of 16, at most 32768.
    clock_hz : int
        Clock frequency in Hz that INFO reports; 0 in simulation.
    build_id : int, optional
        32-bit number that INFO reports. None stands for the first 32 bits of a digest of the RTL;
        :mod:`tritstream.hw.tools.export` fills them in.

    Raises
    ------
    ValueError
        A parameter is out of range.
    TypeError
        A parameter is not an integer.
    """

    lanes: int = 8
    columns: int = 1
    max_k: int = MAX_K
    clock_hz: int = 0
    build_id: int | None = 0

    def __post_init__(self) -> None:
        if index(self.lanes) not in LANE_COUNTS:
            raise ValueError(f"Lanes must be one of {LANE_COUNTS}, not {self.lanes!r}")
        if not 1 <= index(self.columns) <= MAX_COLUMNS:
            raise ValueError(f"Columns must be 1..{MAX_COLUMNS}, not {self.columns!r}")
        if not GROUP <= index(self.max_k) <= MAX_K or self.max_k % GROUP:
            raise ValueError(
                f"Maximum K must be a multiple of {GROUP} up to {MAX_K}, not {self.max_k!r}")
        for name in ("clock_hz", "build_id"):
            value = getattr(self, name)
            if name == "build_id" and value is None:
                continue
            if not 0 <= index(value) < 1 << 32:
                raise ValueError(f"{name} must fit 32 bits, not {value!r}")

    @property
    def word_bits(self) -> int:
        """Bits per word of the request and response streams."""
        return 8 * self.lanes

    @property
    def max_groups(self) -> int:
        """Largest number of groups of 16 elements per activation vector."""
        return self.max_k // GROUP

    @property
    def sums_per_word(self) -> int:
        """Row sums that a word or segment of a response carries: one per 8 lanes, at least one."""
        return max(1, self.lanes // 8)
