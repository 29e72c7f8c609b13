"""Progress as plain lines, where standard error is a log and no terminal."""

import os
import time
from collections.abc import Callable
from threading import Event, Thread

__all__ = ["INTERVAL", "LOG_VARIABLE", "ProgressLog", "interval"]

#: Environment variable with the seconds between two lines; 0 turns the lines off.
LOG_VARIABLE = "TRITSTREAM_PROGRESS"

#: Seconds between two lines, where the environment does not say.
INTERVAL = 10.0


def interval() -> float:
    """Seconds between two lines, 0 for no lines.

    Raises :class:`ValueError` when the environment variable holds no such number.
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
    """A context that prints a line now and then, also while a single step takes long.

    Work that ends within one interval prints nothing.

    Parameters
    ----------
    what : str
        Name of the work.
    total : float
        Steps of the work.
    shown : callable
        Spells a number of steps, for work that is counted in bytes.
    write : callable
        Prints one line.
    seconds : float
        Seconds between two lines.
    """

    def __init__(self, what: str, total: float, shown: Callable[[float], str],
                 write: Callable[[str], None], seconds: float):
        self._what, self._total, self._shown, self._write = what, total, shown, write
        self._seconds = seconds
        self._done, self._label, self._began = 0.0, "", time.monotonic()
        self._over = Event()
        self._thread = Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> "ProgressLog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def advance(self, count: float, label: str = "") -> None:
        """Count steps that are done; the label names the last of them."""
        self._done, self._label = self._done + count, label

    def line(self) -> str:
        """The line to print now."""
        seconds = time.monotonic() - self._began
        text = (f"{self._what}: {self._shown(self._done)} of {self._shown(self._total)}, "
                f"{_duration(seconds)}")
        if 0 < self._done < self._total:
            text += f", about {_duration(seconds * (self._total / self._done - 1))} left"
        return f"{text} ({self._label})" if self._label else text

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self._write(self.line())


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else (
        f"{rest} s")
