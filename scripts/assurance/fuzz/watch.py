"""Limits for a run of a reader: the errors it may raise, its time, the files it may open."""

import linecache
import os
import resource
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from tritstream.scripts.assurance.fuzz.target import Broken, Target

__all__ = ["Fault", "Watch"]

_ROOT = Path(__file__).parents[3]
_OURS = tuple(f"{_ROOT / room}{os.sep}" for room in ("golden", "host", "scripts"))
#: Longest message of an error.
_LONGEST = 2000
#: Audit events that no input may cause.
_FORBIDDEN = {"pickle.find_class", "os.system", "os.exec", "subprocess.Popen"}


class Fault(Exception):
    """Defect in a reader. ``kind`` names it and its place, ``detail`` describes this input."""

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(kind)
        self.kind, self.detail = kind, detail[:200]


class _Hang(KeyboardInterrupt):
    """Time limit exceeded. A KeyboardInterrupt, because event loops catch other exceptions."""


class Watch:
    """Runs inputs of a target, each in an empty directory. One instance per process.

    Parameters
    ----------
    target : Target
    folder : Path
        The directory, which is emptied before each input.
    """

    def __init__(self, target: Target, folder: Path):
        self._target, self._folder = target, folder.resolve()
        self._allowed = (f"{self._folder}{os.sep}", f"{sys.prefix}{os.sep}",
                         f"{sys.base_prefix}{os.sep}", f"{_ROOT}{os.sep}", "/proc/", os.devnull)
        self._active, self._seen = False, ""
        signal.signal(signal.SIGPROF, _hang)
        sys.addaudithook(self._audit)

    def run(self, data: bytes) -> str:
        """Return ``read`` or the documented error of an input; raise :class:`Fault` otherwise."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        try:
            with self._limits(len(data)):
                self._target.run(data, self._folder)
            outcome = "read"
        except self._target.expected as error:
            outcome = _documented(error)
        except Broken as error:
            raise Fault(f"wrong: {error}") from error
        except MemoryError as error:
            raise Fault(f"memory: {_place(error.__traceback__)}") from None
        except RecursionError as error:
            raise Fault(f"RecursionError: {_place(error.__traceback__)}") from None
        except _Hang as error:
            raise Fault(f"hang: {_place(error.__traceback__)}") from None
        except Exception as error:
            raise Fault(f"{type(error).__name__}: {_place(error.__traceback__)}",
                        ascii(str(error))) from error
        if self._seen:
            raise Fault(self._seen)
        return outcome

    @contextmanager
    def _limits(self, size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = _address_space() + self._target.memory + 64 * size
        self._active, self._seen = True, ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                resource.setrlimit(resource.RLIMIT_AS, (most, hard))
                # The signal is repeated in case the reader caught the first one.
                signal.setitimer(signal.ITIMER_PROF, self._target.seconds, 2.0)
                yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
            self._active = False

    def _audit(self, event: str, arguments: tuple) -> None:
        """Record forbidden files and events. An exception raised here might be caught."""
        if not self._active:
            return
        if event == "open":
            path = arguments[0]
            # A number is the descriptor of a file that is already open.
            if isinstance(path, str | bytes) and not self._may_open(os.fsdecode(path)):
                self._seen = f"elsewhere: opened {os.fsdecode(path)!r}"
        elif event in _FORBIDDEN:
            self._seen = f"elsewhere: {event} {arguments!r:.200}"

    def _may_open(self, path: str) -> bool:
        try:
            return f"{os.path.realpath(path)}{os.sep}".startswith(self._allowed)
        except ValueError:
            return True         # no file can have this name


def _hang(_: int, frame: FrameType | None) -> None:
    raise _Hang


def _documented(error: Exception) -> str:
    """Return type and place of an error; raise :class:`Fault` unless it is one line and raised
    on purpose.
    """
    message, place = str(error), _place(error.__traceback__)
    if not message.isprintable() or len(message) > _LONGEST:
        raise Fault(f"message: {place}", ascii(message)) from error
    if not isinstance(error, OSError) and not _is_raised(error.__traceback__):
        raise Fault(f"{type(error).__name__}: {place}", message) from error
    return f"{type(error).__name__} {place}"


def _frames(traceback: TracebackType | None) -> list[tuple[str, int]]:
    found = []
    while traceback:
        found.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def _is_raised(traceback: TracebackType | None) -> bool:
    """Return whether the error comes from a ``raise`` statement of this project."""
    path, line = _frames(traceback)[-1]
    return path.startswith(_OURS) and linecache.getline(path, line).lstrip().startswith("raise")


def _place(traceback: TracebackType | None) -> str:
    """Return the innermost line of this project in a traceback."""
    frames = _frames(traceback)
    ours = [frame for frame in frames if frame[0].startswith(_OURS)] or frames
    path, line = ours[-1]
    return f"{path.removeprefix(f'{_ROOT}{os.sep}')}:{line}"


def _address_space() -> int:
    """Return the address space of this process in bytes."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
