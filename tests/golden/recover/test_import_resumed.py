"""Imports that were killed resume; other output is not replaced."""

import os
import signal

import pytest

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.packed.verify import verify
from tritstream.golden.recover import survey
from tritstream.golden.recover.import_checkpoint import import_checkpoint

from support.forked import run_forked
from support.golden_helpers import contents, message
from support.published import write_checkpoint

#: Imports argv[1] into argv[2] and kills itself after the n-th progress.
KILL = """
import os, signal, sys
from tritstream.golden.recover.import_checkpoint import import_checkpoint

left = int(sys.argv[3])

def count(stage, name):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

import_checkpoint(sys.argv[1], sys.argv[2], progress=count)
"""


@pytest.mark.parametrize("last", [1, 9, 15, 17, 19, 30, 43, 44, 67])
def test_resumes_after_a_kill(model, imported, tmp_path, last):
    finished = run_forked(KILL, model, tmp_path / "o", last)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert not (tmp_path / "o").exists()
    stages = []
    report = import_checkpoint(model, tmp_path / "o", progress=lambda *step: stages.append(step))
    assert contents(tmp_path / "o") == contents(imported)
    assert len(stages) == 14 + 5 + 24 + 24
    assert len(report.surveys) == 14


def test_does_not_recover_twice(model, tmp_path, monkeypatch):
    finished = run_forked(KILL, model, tmp_path / "o", 16)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    monkeypatch.setattr(survey, "recover", None)
    import_checkpoint(model, tmp_path / "o")
    assert verify(tmp_path / "o", model) == []


def test_a_source_that_changed(tmp_path):
    write_checkpoint(tmp_path / "m", layers=1)
    finished = run_forked(KILL, tmp_path / "m", tmp_path / "o", 5)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    os.utime(tmp_path / "m" / "model.safetensors", (0, 0))
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o.partial'}: left by another job; remove it, or force")):
        import_checkpoint(tmp_path / "m", tmp_path / "o")
    import_checkpoint(tmp_path / "m", tmp_path / "o", force=True)
    assert verify(tmp_path / "o", tmp_path / "m") == []


def test_existing_output_is_not_replaced(model, imported):
    with pytest.raises(CheckpointError, match="exists already"):
        import_checkpoint(model, imported)
    with pytest.raises(CheckpointError, match="must not be the source"):
        import_checkpoint(model, model, force=True)
