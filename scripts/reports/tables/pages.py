"""Tables of README and docs, made from the reports that the repository keeps in `hw/`.

A page has a table between ``<!-- table REPORT -->`` and ``<!-- end of table -->``; REPORT is a
file of `tritstream hw report`, or the directory with those of `tritstream hw build`; what stands
under ``hw/soc/reports`` is a table of :mod:`.tables.soc`, and what compares is one of
:mod:`.tables.comparisons`; what was measured by `tritstream dev bench`, of :mod:`.tables.bench`;
what was fuzzed and soaked, of :mod:`.tables.trust`.
"""

import json
import re
from pathlib import Path

from tritstream.hw.boards.catalog import BOARDS
from tritstream.scripts.hardware.area_table import AREA_COLUMNS, area_rows
from tritstream.scripts.reports.tables import bench as bench_tables
from tritstream.scripts.reports.tables import comparisons as page_tables
from tritstream.scripts.reports.tables import soc as soc_tables
from tritstream.scripts.reports.tables import trust as trust_tables

__all__ = ["ROOT", "fill", "pages"]

#: Where the project is, and its pages.
ROOT = Path(__file__).parents[3]

_TABLES = {**soc_tables.TABLES, **page_tables.TABLES, **bench_tables.TABLES,
           **trust_tables.TABLES}
_REGION = re.compile(r"(?<=<!-- table )(\S+)( -->\n).*?(?=<!-- end of table -->)", re.DOTALL)

_BOARD_COLUMNS = ["name", "board", "L", "B", "max K", "MHz wanted", "reached", "logic cells",
                  "block RAM", "multipliers", "bitstream, bytes", "baud", "build"]
#: Cells of each family.
_LOGIC       = ("TRELLIS_COMB", "ICESTORM_LC", "LUT4")
_MEMORIES    = ("DP16KD", "ICESTORM_RAM", "BSRAM")
_MULTIPLIERS = ("MULT18X18D", "ICESTORM_DSP", "MULT18X18")


def pages(root: Path = ROOT) -> list[Path]:
    """Pages that may have tables.

    Raises :class:`FileNotFoundError` where there are none, as in what pip installs.
    """
    if not (root / "docs").is_dir():
        raise FileNotFoundError(f"{root / 'docs'}: not there; tables are made in a checkout")
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def fill(text: str, root: Path = ROOT) -> str:
    """A page with its tables as the reports have them now."""
    return _REGION.sub(lambda found: f"{found[1]}{found[2]}{_table(root / found[1])}", text)


def _table(path):
    if path.name in _TABLES:
        return _markdown(*_TABLES[path.name](path))
    if path.is_dir():
        kept = [path / f"{name}.json" for name in BOARDS]
        return _markdown(_BOARD_COLUMNS, map(_board_row, map(_read, filter(Path.exists, kept))))
    report = _read(path)
    return _markdown(AREA_COLUMNS, area_rows(report["units"])) + _origin(report)


def _read(path):
    return json.loads(path.read_text())


def _markdown(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _origin(report):
    tools = ", ".join(f"{name} {version}" for name, version in report["tools"].items())
    return (f"\n{report['part']}, {report['frequency_mhz']} MHz asked of place and route; "
            f"{tools}; RTL {report['rtl'][:8]}; `{report['command']}`.\n")


def _board_row(report):
    device, clock = report["device"], report["clock"]
    return [f"`{report['board']}`", BOARDS[report["board"]].title,
            *(str(device[name]) for name in ("lanes", "columns", "max_k")),
            *(f"{clock[name]:.1f}" for name in ("constraint", "achieved")),
            *(_used(report["cells"], names) for names in (_LOGIC, _MEMORIES, _MULTIPLIERS)),
            str(report["bitstream"]["bytes"]), str(report["baud"]),
            f"{device['build_id']:08x}"]


def _used(cells, names):
    """Cells of the first type there is: used, of how many, and the share."""
    found = next((cells[name] for name in names if name in cells), None)
    if not found:
        return "-"
    used, available = found
    return f"{used} of {available} ({used / available:.0%})"
