"""Progress as plain lines, for a standard error that is not a terminal."""

import os
import time
from collections.abc import Callable
from threading import Event, Thread

__all__ = ["INTERVAL", "LOG_VARIABLE", "ProgressLog", "interval"]

#: Environment variable with the seconds between two lines; 0 turns the lines off.
LOG_VARIABLE = "TRITSTREAM_PROGRESS"

#: Seconds between two lines, unless the environment variable is set.
INTERVAL = 10.0


def interval() -> float:
    """Return the seconds between two lines; 0 means no lines.

    Raises :class:`ValueError` if the environment variable is not a valid number of seconds.
    """
    text = os.environ.get(LOG_VARIABLE) or str(INTERVAL)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{LOG_VARIABLE} must be the seconds between two lines of progress, 0 for "
                         f"none, not {text!r}")
    return seconds


class ProgressLog:
    """Context that prints a line per interval, even while a single step takes long.

    Work that ends within one interval prints nothing.

    Parameters
    ----------
    what : str
        Name of the work.
    total : float
        Steps of the work.
    shown : callable
        Formats a number of steps, which may be bytes.
    write : callable
        Prints one line.
    seconds : float
        Seconds between two lines.
    start : int
        Steps that an earlier run has done; the estimate of the time left does not count them.
    """

    def __init__(self, what: str, total: float, shown: Callable[[float], str],
                 write: Callable[[str], None], seconds: float, start: int = 0):
        self._what, self._total, self._shown, self._write = what, total, shown, write
        self._seconds, self._start = seconds, start
        self._done, self._label, self._began = float(start), "", time.monotonic()
        self._over = Event()
        self._thread = Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> "ProgressLog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def advance(self, count: float, label: str = "") -> None:
        """Count finished steps; the label names the last one."""
        self._done, self._label = self._done + count, label

    def line(self) -> str:
        """Return the line to print now."""
        seconds = time.monotonic() - self._began
        text = (f"{self._what}: {self._shown(self._done)} of {self._shown(self._total)}, "
                f"{_duration(seconds)}")
        if self._start < self._done < self._total:
            left = (self._total - self._done) / (self._done - self._start)
            text += f", about {_duration(seconds * left)} left"
        return f"{text} ({self._label})" if self._label else text

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self._write(self.line())


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else (
        f"{rest} s")
