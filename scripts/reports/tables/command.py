"""Command ``tritstream dev tables``."""

from typing import Annotated

import typer

from tritstream.scripts.console import Failure, reports_errors, write_text
from tritstream.scripts.reports.tables.pages import ROOT, fill, pages

__all__ = ["fill_tables"]


@reports_errors
def fill_tables(
    check: Annotated[bool, typer.Option(
        "--check", help="Change nothing, and fail if a table differs from its report.")] = False,
):
    """Write the tables of README.md and docs/ from the reports in hw/ and docs/figures/."""
    stale = {path: text for path in pages() if (text := fill(path.read_text())) != path.read_text()}
    names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
    if check and stale:
        raise Failure(f"tables differ from their reports: {names}; run `tritstream dev tables`")
    for path, text in stale.items():
        write_text(path, text)
    print(f"tables: {names or 'nothing to change'}")
