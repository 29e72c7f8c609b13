"""Areas and clocks of units as rows of a table."""

from tritstream.hw.tools.area import Area, synthesized_area

__all__ = ["COUNTS", "SYNTHESIZED", "report_table", "synthesized_figures"]

#: Cell types of an area table, and their usual names.
_CELLS = {"TRELLIS_COMB": "TRELLIS_COMB", "TRELLIS_FF": "flip-flops", "DP16KD": "DP16KD",
          "MULT18X18D": "MULT18X18D"}
_AREA_COLUMNS = ["unit", "L", "B", *_CELLS.values(), "Fmax, MHz: min", "median", "max",
                 "COMB per trit-MAC", "G trit-MAC/s per kLUT"]
#: Columns of figures of a netlist for 7-series or UltraScale+ that was not placed.
SYNTHESIZED = [*synthesized_area({}), "LUT per trit-MAC", "flip-flops per trit-MAC"]
#: What the counts of such a table are.
COUNTS = ("Counts of Yosys after synthesis, without placement: no clock is known. Yosys does not "
          "merge two small LUTs into one LUT6 with two outputs, so each counts. LUT includes "
          "memory in LUTs. A CARRY8 counts as two CARRY4, and a RAMB36 as two RAMB18.")


def report_table(report: dict) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of a report of `tritstream hw report`."""
    if "family" in report:
        return ["unit", "L", "B", *SYNTHESIZED], _synthesized_rows(report["units"])
    return _AREA_COLUMNS, _area_rows(report["units"])


def _area_rows(measured: list[dict]) -> list[list[str]]:
    """Return a row of :data:`_AREA_COLUMNS` per unit of a report."""
    return [_area_row(Area(unit)) for unit in measured]


def _synthesized_rows(measured: list[dict]) -> list[list[str]]:
    """Return a row per unit: name, size and :data:`SYNTHESIZED`."""
    return [[unit["unit"], str(unit["lanes"]), str(unit["columns"]),
             *synthesized_figures(unit["synthesized"], unit["trit_macs"])] for unit in measured]


def synthesized_figures(cells: dict, macs: int) -> list[str]:
    """Return the columns :data:`SYNTHESIZED` of a netlist with ``macs`` trit-MACs per cycle."""
    area = synthesized_area(cells)
    return [*map(str, area.values()),
            *(_number(area[name] / macs if macs else None, 1) for name in ("LUT", "flip-flops"))]


def _area_row(area):
    unit, clocks = area.measured, area.clocks or [None] * 3
    return [unit["unit"], str(unit["lanes"]), str(unit["columns"]),
            *(f"{area.cells(cell)}" for cell in _CELLS),
            *(_number(clock, 1) for clock in clocks),
            _number(area.per_mac, 1), _number(area.density, 2)]


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"
