"""Group length and kind of scales that a quantizer gives matrices."""

from dataclasses import dataclass

from tritstream.golden.fixed_point import GROUP, group_count
from tritstream.golden.scales import CODED, DIRECT

__all__ = ["GROUPING", "SCALES_OF_OWN", "Grouping"]

#: Kinds of scales that a quantizer can make: codes of a table per matrix, or a float16 per group.
SCALES_OF_OWN = (CODED, DIRECT)


@dataclass(frozen=True)
class Grouping:
    """Group length and kind of scales.

    Members
    -------
    group : int
        Consecutive weights of a row that share a scale: a multiple of 16. A row with fewer weights
        is one group.
    scales : str
        One of :data:`SCALES_OF_OWN`.

    Raises :class:`ValueError` for another length or kind.
    """

    group:  int = GROUP
    scales: str = CODED

    def __post_init__(self) -> None:
        is_integer = isinstance(self.group, int) and not isinstance(self.group, bool)
        if not is_integer or self.group < GROUP or self.group % GROUP:
            raise ValueError(f"group must be a multiple of {GROUP}, not {self.group!r}")
        if self.scales not in SCALES_OF_OWN:
            raise ValueError(f"scales must be {' or '.join(SCALES_OF_OWN)}, not {self.scales!r}")

    def length(self, columns: int) -> int:
        """Return the group length of a matrix with so many columns."""
        return min(self.group, GROUP * group_count(columns))

    def settings(self) -> dict[str, object]:
        """Return the members as JSON values, empty for the defaults."""
        return {} if self == GROUPING else {"group": self.group, "scales": self.scales}


#: Groups of 16 weights with coded scales, which every version of the packed format has.
GROUPING = Grouping()
