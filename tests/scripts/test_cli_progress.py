"""Progress where standard error is a log."""

import re
from io import StringIO
from threading import Event

import pytest
from rich.console import Console

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.scripts.console import progress
from tritstream.scripts.progress_log import ProgressLog

from support.cli_helpers import command_fails, run_command
from support.model_helpers import MODEL, PROMPT

#: Times of a line.
NUMBER = r"\d+ s(, about \d+ s left)?"


class Log:
    """The lines that come, and a way to wait for some."""

    def __init__(self, monkeypatch, seconds):
        self.lines, self._come = [], Event()
        monkeypatch.setenv("TRITSTREAM_PROGRESS", seconds)
        monkeypatch.setattr("tritstream.scripts.console._print_line", self._take)

    def wait(self, text, count=1):
        """Wait until so many lines have the text."""
        while sum(text in line for line in self.lines) < count:
            assert self._come.wait(300)
            self._come.clear()

    def _take(self, line):
        self.lines.append(line)
        self._come.set()


def test_lines_now_and_then(monkeypatch):
    log = Log(monkeypatch, "0.01")
    with progress("working", 4) as advance:
        for step in range(4):
            advance(1, f"step {step}")
            log.wait(f"working: {step + 1} of 4, ")
            log.wait(f" (step {step})")
    for line in log.lines:
        assert re.fullmatch(rf"working: [0-4] of 4, {NUMBER}( \(step [0-3]\))?", line)


def test_a_step_that_takes_long_still_has_lines(monkeypatch):
    log = Log(monkeypatch, "0.01")
    with progress("working", 4, in_bytes=True):
        log.wait("working", 2)
    assert {line.rsplit(",", 1)[0] for line in log.lines} == {"working: 0 bytes of 4 bytes"}


@pytest.mark.parametrize("seconds", ["1000", "0"])
def test_work_that_is_quick_has_none(monkeypatch, capsys, seconds):
    log = Log(monkeypatch, seconds)
    with progress("working", 4) as advance:
        advance(4)
    assert log.lines == [] and capsys.readouterr() == ("", "")


@pytest.mark.parametrize("seconds", ["x", "-1", "nan", "inf"])
def test_wrong_seconds(monkeypatch, tmp_path, seconds):
    monkeypatch.setenv("TRITSTREAM_PROGRESS", seconds)
    assert command_fails("quantize", MODEL, "-o", tmp_path / "out") == (
        "TRITSTREAM_PROGRESS must be the seconds between two lines of progress, 0 for none, not "
        f"{seconds!r}")


@pytest.mark.parametrize(("seconds", "done", "shown"), [
    (0, 1, "0 s, about 0 s left"), (61, 1, "1 min 1 s, about 3 min 3 s left"),
    (7200, 3, "2 h 0 min, about 40 min 0 s left"), (5, 4, "5 s"), (5, 0, "5 s")])
def test_times_of_a_line(monkeypatch, seconds, done, shown):
    now = [100.0]
    monkeypatch.setattr("tritstream.scripts.progress_log.time.monotonic", lambda: now[0])
    log = ProgressLog("working", 4, "{:.0f}".format, print, 1)
    log.advance(done)
    now[0] += seconds
    assert log.line() == f"working: {done} of 4, {shown}"


def test_steps_of_an_earlier_run_do_not_shorten_the_estimate(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tritstream.scripts.progress_log.time.monotonic", lambda: now[0])
    log = ProgressLog("working", 10, "{:.0f}".format, print, 1, start=6)
    now[0] += 20
    assert log.line() == "working: 6 of 10, 20 s"
    log.advance(1)
    assert log.line() == "working: 7 of 10, 20 s, about 1 min 0 s left"


def test_a_bar_starts_at_the_steps_of_an_earlier_run(monkeypatch):
    shown = Console(file=StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr("tritstream.scripts.console.console", shown)
    with progress("working", 10, start=6) as advance:
        advance(1)
    assert re.findall(r"\d+/10", shown.file.getvalue())[0] == "6/10"
    assert re.findall(r"\d+/10", shown.file.getvalue())[-1] == "7/10"


class EveryStep:
    """A log that has a line after every step, however fast it was."""

    def __init__(self, monkeypatch):
        self.lines = []
        monkeypatch.setenv("TRITSTREAM_PROGRESS", "1000")
        advance = ProgressLog.advance

        def advance_and_note(log, *arguments):
            advance(log, *arguments)
            self.lines.append(log.line().split(",")[0])

        monkeypatch.setattr(ProgressLog, "advance", advance_and_note)


@pytest.mark.parametrize("backend", ["golden", "reference", "device"])
def test_a_prompt_is_read_layer_by_layer(tmp_path, monkeypatch, backend):
    pack_checkpoint(MODEL, tmp_path / "packed", 1)
    log = EveryStep(monkeypatch)
    code, _, said = run_command("generate", tmp_path / "packed", "--prompt", PROMPT, "--tokens", 3,
                                "--backend", backend, "--json")
    assert code == 0, said
    passes = [line for line in log.lines if not line.startswith("loading")]
    assert passes == [*(f"reading the prompt: {count} of 28" for count in range(1, 29)),
                      "generating tokens: 1 of 3", "generating tokens: 2 of 3",
                      "generating tokens: 3 of 3"]
