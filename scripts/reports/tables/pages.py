"""Tables of README and docs, made from the reports in the repository.

A page has a table between ``<!-- table REPORT -->`` and ``<!-- end of table -->``. REPORT is a
report of `tritstream hw report`, or the directory with those of `tritstream hw build`. The module
:mod:`.tables.soc` makes the tables of reports in ``hw/soc/reports``, :mod:`.tables.comparisons`
those of comparisons, :mod:`.tables.bench` those of `tritstream dev bench`, and :mod:`.tables.trust`
those of fuzzing and soak.
"""

import json
import re
from pathlib import Path

from tritstream.hw.boards.catalog import BOARDS
from tritstream.scripts.hardware.area_table import report_table
from tritstream.scripts.reports.tables import bench as bench_tables
from tritstream.scripts.reports.tables import comparisons as page_tables
from tritstream.scripts.reports.tables import soc as soc_tables
from tritstream.scripts.reports.tables import trust as trust_tables

__all__ = ["ROOT", "fill", "pages"]

#: Root of the repository.
ROOT = Path(__file__).parents[3]

_TABLES = {**soc_tables.TABLES, **page_tables.TABLES, **bench_tables.TABLES,
           **trust_tables.TABLES}
_REGION = re.compile(r"(?<=<!-- table )(\S+)( -->\n).*?(?=<!-- end of table -->)", re.DOTALL)

_BOARD_COLUMNS = ["name", "board", "L", "B", "max K", "MHz required", "achieved", "logic cells",
                  "block RAM", "multipliers", "bitstream, bytes", "baud", "build"]
#: Cell types per FPGA family.
_LOGIC       = ("TRELLIS_COMB", "ICESTORM_LC", "LUT4")
_MEMORIES    = ("DP16KD", "ICESTORM_RAM", "BSRAM")
_MULTIPLIERS = ("MULT18X18D", "ICESTORM_DSP", "MULT18X18")


def pages(root: Path = ROOT) -> list[Path]:
    """Return the pages that may have tables.

    Raises :class:`FileNotFoundError` if there are none, as in an installed wheel.
    """
    if not (root / "docs").is_dir():
        raise FileNotFoundError(f"{root / 'docs'}: not there; tables are made in a checkout")
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def fill(text: str, root: Path = ROOT) -> str:
    """Return the text of a page with its tables made from the reports."""
    return _REGION.sub(lambda found: f"{found[1]}{found[2]}{_table(root / found[1])}", text)


def _table(path):
    if path.name in _TABLES:
        return _markdown(*_TABLES[path.name](path))
    if path.is_dir():
        kept = [path / f"{name}.json" for name in BOARDS]
        return _markdown(_BOARD_COLUMNS, map(_board_row, map(_read, filter(Path.exists, kept))))
    report = _read(path)
    return _markdown(*report_table(report)) + _origin(report)


def _read(path):
    return json.loads(path.read_text())


def _markdown(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _origin(report):
    tools = ", ".join(f"{name} {version}" for name, version in report["tools"].items())
    target = (f"{report['family']}, synthesis only" if "family" in report else
              f"{report['part']}, {report['frequency_mhz']} MHz asked of place and route")
    return (f"\n{target}; {tools}; RTL {report['rtl'][:8]}; `{report['command']}`.\n")


def _board_row(report):
    device, clock = report["device"], report["clock"]
    return [f"`{report['board']}`", BOARDS[report["board"]].title,
            *(str(device[name]) for name in ("lanes", "columns", "max_k")),
            *(f"{clock[name]:.1f}" for name in ("constraint", "achieved")),
            *(_used(report["cells"], names) for names in (_LOGIC, _MEMORIES, _MULTIPLIERS)),
            str(report["bitstream"]["bytes"]), str(report["baud"]),
            f"{device['build_id']:08x}"]


def _used(cells, names):
    """Cells of the first type that the report has: used, available, and the share."""
    found = next((cells[name] for name in names if name in cells), None)
    if not found:
        return "-"
    used, available = found
    return f"{used} of {available} ({used / available:.0%})"
