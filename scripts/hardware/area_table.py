"""Areas and clocks of units as rows of a table."""

from tritstream.hw.tools.area import Area

__all__ = ["AREA_COLUMNS", "area_rows"]

#: Cell types of an area table, and their usual names.
_CELLS = {"TRELLIS_COMB": "TRELLIS_COMB", "TRELLIS_FF": "flip-flops", "DP16KD": "DP16KD",
          "MULT18X18D": "MULT18X18D"}
AREA_COLUMNS = ["unit", "L", "B", *_CELLS.values(), "Fmax, MHz: min", "median", "max",
                "COMB per trit-MAC", "G trit-MAC/s per kLUT"]


def area_rows(measured: list[dict]) -> list[list[str]]:
    """Return a row of :data:`AREA_COLUMNS` per unit of a report."""
    return [_area_row(Area(unit)) for unit in measured]


def _area_row(area):
    unit, clocks = area.measured, area.clocks or [None] * 3
    return [unit["unit"], str(unit["lanes"]), str(unit["columns"]),
            *(f"{area.cells(cell)}" for cell in _CELLS),
            *(_number(clock, 1) for clock in clocks),
            _number(area.per_mac, 1), _number(area.density, 2)]


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"
