"""Shared by all commands: tables, progress, files, one-line errors, exit codes."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from tritstream.golden.atomic_write import atomic_write, json_text
from tritstream.golden.jobs.replacing import check_same_kind
from tritstream.host.errors import HostError
from tritstream.hw.tools.synth import SynthError
from tritstream.scripts.progress_log import ProgressLog, interval
from tritstream.scripts.streams import storable
from tritstream.sim.build import BuildError

__all__ = ["FAILED", "INTERRUPTED", "Failure", "as_table", "console", "print_json", "progress",
           "reports_errors", "table", "text_shows_progress", "write_bytes", "write_json",
           "write_text"]

#: Console for everything that is not a result; results go to standard output.
console = Console(stderr=True, highlight=False, emoji=False)

_EXPECTED = (ValueError, OSError, HostError, BuildError, SynthError)


#: Exit codes: failed or found a problem; interrupted (128 + SIGINT, as in shells).
FAILED, INTERRUPTED = 1, 130


class Failure(Exception):
    """The command ran and found a problem that it must report, or was interrupted."""

    def __init__(self, message: str, code: int = FAILED):
        super().__init__(message)
        self.code = code


def reports_errors(command: Callable) -> Callable:
    """Turn expected exceptions of a command into one line and an exit code."""
    @wraps(command)
    def run(*args, **kwargs):
        try:
            found = command(*args, **kwargs)
            # An error of the output must appear before the command counts as successful.
            sys.stdout.flush()
            return found
        except (*_EXPECTED, Failure) as error:
            console.print(f"error: {error}", markup=False, soft_wrap=True)
            sys.exit(error.code if isinstance(error, Failure) else FAILED)
        except KeyboardInterrupt:
            console.print("interrupted: run the command again to resume", markup=False)
            sys.exit(INTERRUPTED)
    return run


@contextmanager
def progress(
    what: str, total: float, in_bytes: bool = False, start: int = 0,
) -> Iterator[Callable[..., None]]:
    """Show progress, as a bar on a terminal, else as lines; yield ``advance(count, label)``.

    The first ``start`` of ``total`` steps were done by an earlier run: no rate is taken from them.
    """
    if not console.is_terminal:
        with _log(what, total, in_bytes, start) as advance:
            yield advance
        return
    counts = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *counts,
               TimeRemainingColumn(), TextColumn("{task.fields[label]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, completed=start, label="")
        yield lambda count, label="": bar.update(task, advance=count, label=label)


@contextmanager
def _log(
    what: str, total: float, in_bytes: bool, start: int,
) -> Iterator[Callable[..., None]]:
    seconds = interval()
    if not seconds:
        yield lambda count, label="": None
        return
    shown = (lambda count: decimal(round(count))) if in_bytes else "{:.0f}".format
    with ProgressLog(what, total, shown, _print_line, seconds, start) as log:
        yield log.advance


def text_shows_progress() -> bool:
    """Whether the text of a result appears where progress does, so that it shows it by itself."""
    try:
        return console.is_terminal or os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (OSError, ValueError):
        return False


def _print_line(line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]], texts: int = 1) -> None:
    """Print :func:`as_table` to standard output."""
    width = None if sys.stdout.isatty() else 200
    Console(highlight=False, emoji=False, width=width, markup=False).print(
        as_table(title, columns, rows, texts))


def as_table(title: str, columns: list[str], rows: list[list[str]], texts: int = 1) -> Table:
    """Return a table: text in the first columns, numbers in the others."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        shown.add_column(column, justify="left" if index < texts else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    return shown


def print_json(value) -> None:
    """Print ``value`` as JSON to standard output."""
    print(json_text(storable(value)), end="")


def write_json(path: Path, value: object) -> None:
    """Write a report as JSON: :func:`write_bytes`."""
    write_text(path, json_text(storable(value)))


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8: :func:`write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file completely or not at all: :func:`.atomic_write`.

    Raises :class:`.CheckpointError` if ``path`` is a file of another kind, which is not replaced,
    or if the file cannot be written.
    """
    check_same_kind(path, data)
    atomic_write(path, data)
