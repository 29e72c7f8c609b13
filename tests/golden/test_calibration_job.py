"""A calibration that was killed resumes, wherever that was, and gives the same bytes."""

import json
import signal

import numpy as np
import pytest

from tritstream.golden import calibration_job
from tritstream.golden.calibration_job import CalibrationJob
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.jobs.journal import Journal
from tritstream.golden.quantizers.moments import Moment, write_moments

from support.forked import run_forked
from support.golden_helpers import contents, message

JOB = {"model": "m, files 0", "text": "a.txt, SHA-256 0"}
WINDOWS = 5


def read_windows(job, read=None):
    """Sum up windows of numbers, as a calibration does: returns how many were read."""
    sums = {"a.inputs": np.zeros((7, 7), np.float32), "a.results": np.zeros(3, np.float32)}
    done = job.restore(sums)
    for window in range(done, WINDOWS):
        rng = np.random.default_rng(window)
        for values in sums.values():
            values += rng.random(values.shape, np.float32)
        job.offer(sums, window + 1)
        if read:
            read(window)
    job.finish({"a": Moment(sums["a.inputs"], sums["a.results"])}, {"text": "a.txt"})
    return WINDOWS - done


def calibrate(output, **options):
    """Return the number of windows that a run reads, or None if an earlier run was complete."""
    with CalibrationJob(output, options.pop("job", JOB), **options) as job:
        return None if job.finished else read_windows(job)


class Stopped(Exception):
    pass


def stop_after(output, count, job=JOB):
    def read(window):
        if window + 1 == count:
            raise Stopped

    with pytest.raises(Stopped), CalibrationJob(output, job) as running:
        read_windows(running, read)


@pytest.fixture
def out(tmp_path, monkeypatch):
    # Sums are kept after every window.
    monkeypatch.setattr(calibration_job, "_SHARE", 0)
    return tmp_path / "m.safetensors"


@pytest.fixture
def expected(out):
    """The bytes of a run that nothing disturbs."""
    path = out.with_name("whole.safetensors")
    assert calibrate(path) == WINDOWS
    assert [file.name for file in out.parent.iterdir()] == [path.name]
    data = path.read_bytes()
    path.unlink()
    return data


#: Calibrates into argv[2], the tests being in argv[1], and kills itself at the n-th call of a
#: function: before it, after it, or for a write, when half has gone out.
KILL = """
import os, pathlib, signal, sys
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from pathlib import Path
import test_calibration_job as here
from tritstream.golden import calibration_job

owner, name, last, point = sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6]
calibration_job._SHARE = 0
owner = {"os": os, "Path": pathlib.Path}[owner]
real, seen = getattr(owner, name), 0

def dying(*arguments, **options):
    global seen
    seen += 1
    if seen == last and point == "half":
        real(arguments[0], bytes(arguments[1])[:len(arguments[1]) // 2], *arguments[2:])
    result = None if seen == last and point != "after" else real(*arguments, **options)
    if seen == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, dying)
here.calibrate(Path(sys.argv[2]))
"""


@pytest.mark.parametrize(("call", "last", "point", "left"), [
    ("os.pwrite", 2, "half", 5),      # sums of the first window
    ("os.pwrite", 3, "half", 5),      # their header
    ("os.pwrite", 10, "half", 2),     # the fourth window
    ("os.pwrite", 16, "half", 0),     # the moments
    ("os.fsync", 2, "before", 5),
    ("os.replace", 1, "before", 0),
    ("os.replace", 2, "before", None),
    ("os.replace", 2, "after", None),
    ("Path.unlink", 1, "after", 0),   # the temporary name of the moments
    ("Path.unlink", 2, "after", None),
    ("Path.unlink", 4, "before", None),
])
def test_resumes_after_a_kill(out, expected, call, last, point, left):
    owner, name = call.split(".")
    finished = run_forked(KILL, __file__.rpartition("/")[0], out, owner, name, last, point)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert calibrate(out) == left
    assert out.read_bytes() == expected
    assert [file.name for file in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_resumes_with_the_sums_that_were_kept(out, expected, count):
    stop_after(out, count)
    kept = list(out.with_name("m.safetensors.partial").glob("sums-*"))
    assert len(kept) == min(count, 2)
    assert calibrate(out) == WINDOWS - count
    assert out.read_bytes() == expected


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "other"])
def test_damaged_sums_do_not_count(out, expected, damage):
    stop_after(out, 1)
    file = out.with_name("m.safetensors.partial") / "sums-0.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    if damage == "gone":
        file.unlink()
    elif damage == "other":
        calibration_job.write_arrays(file, {"b": np.ones(3, np.float32)}, {})
    else:
        file.write_bytes(data[:-4] if damage == "cut" else data)
    assert calibrate(out) == WINDOWS
    assert out.read_bytes() == expected


def test_sums_are_kept_as_often_as_takes_little_time(out, monkeypatch):
    monkeypatch.setattr(calibration_job, "_SHARE", 10)
    clock = [0.0]
    monkeypatch.setattr(calibration_job.time, "monotonic", lambda: clock[0])
    real, kept = calibration_job.write_arrays, []

    def slow(path, arrays, metadata):
        clock[0] += 2
        kept.append(path.name)
        return real(path, arrays, metadata)

    monkeypatch.setattr(calibration_job, "write_arrays", slow)

    def read(_):
        clock[0] += 12

    with CalibrationJob(out, JOB) as job:
        read_windows(job, read)
    # After the first window, then no sooner than 20 seconds later: after the third and the fifth.
    assert kept == ["sums-0.safetensors", "sums-1.safetensors", "sums-0.safetensors"]


@pytest.mark.parametrize(("name", "theirs", "mine"), [
    ("text", "a.txt, SHA-256 0", "a.txt, SHA-256 1"), ("model", "m, files 0", "n, files 0")])
def test_another_job_with_this_output(out, expected, name, theirs, mine):
    stop_after(out, 2)
    with pytest.raises(CheckpointError, match=message(
            f"{out}.partial: was left by a calibration with another {name} ({theirs}, not {mine});"
            " finish that calibration, choose another output, or force")):
        calibrate(out, job=JOB | {name: mine})
    # What was refused changed nothing.
    assert calibrate(out) == WINDOWS - 2
    assert out.read_bytes() == expected


def test_force_discards_another_job(out, expected):
    stop_after(out, 2, JOB | {"text": "b.txt"})
    assert calibrate(out, force=True) == WINDOWS
    assert out.read_bytes() == expected


def test_output_that_exists(out, expected):
    write_moments(out, {}, {})
    with pytest.raises(CheckpointError, match=message(
            f"{out}: exists already; remove it, choose another, or force")):
        calibrate(out)
    assert [file.name for file in out.parent.iterdir()] == [out.name]
    assert calibrate(out, force=True) == WINDOWS
    assert out.read_bytes() == expected


def test_output_that_holds_no_moments_is_never_replaced(out):
    stop_after(out, 2, JOB | {"text": "b.txt"})
    kept = contents(out.with_name("m.safetensors.partial"))
    out.write_text("mine")
    with pytest.raises(CheckpointError, match=message(
            f"{out}: is not a file of moments, so it is not replaced; choose another, or remove it "
            "yourself")):
        calibrate(out, force=True)
    assert out.read_text() == "mine"
    assert contents(out.with_name("m.safetensors.partial")) == kept


def test_output_that_exists_is_not_taken_for_that_of_a_killed_run(out, expected):
    write_moments(out, {}, {})
    before = out.read_bytes()
    with pytest.raises(Stopped), CalibrationJob(out, JOB, force=True) as job:
        read_windows(job, lambda window: stop())
    with pytest.raises(CheckpointError, match="exists already"):
        calibrate(out)
    assert out.read_bytes() == before
    assert calibrate(out, force=True) == WINDOWS - 1
    assert out.read_bytes() == expected


def stop():
    raise Stopped


def test_moments_that_were_removed_after_the_kill_are_made_again(out, expected):
    stop_after(out, 2)
    with Journal(out.with_name("m.safetensors.partial") / ".journal.jsonl") as journal:
        journal.record("written", {})
    assert calibrate(out) == WINDOWS - 2
    assert out.read_bytes() == expected


def test_files_of_others_are_not_touched(out, expected):
    partial = out.with_name("m.safetensors.partial")
    partial.mkdir()
    (partial / "thesis.docx").write_text("x")
    for force in (False, True):
        with pytest.raises(CheckpointError, match=message(
                f"{partial}: holds thesis.docx, which no calibration wrote; move it, or choose "
                "another output")):
            calibrate(out, force=force)
    assert [path.name for path in partial.iterdir()] == ["thesis.docx"]
    (out.parent / "d").mkdir()
    with pytest.raises(CheckpointError, match="d: is a directory; give the name of a file$"):
        calibrate(out.parent / "d", force=True)


def test_only_one_process_at_a_time(out, expected):
    with (CalibrationJob(out, JOB), pytest.raises(CheckpointError, match=message(
            f"{out}.partial: another process is writing it; wait for it"))):
        calibrate(out)


def test_record_of_another_version(out):
    stop_after(out, 1)
    path = out.with_name("m.safetensors.partial") / ".journal.jsonl"
    with Journal(path) as journal:
        journal.record("read", {"file": "../thesis", "windows": 1, "checksums": {}})
    assert json.loads(path.read_text().splitlines()[0]) == JOB
    with pytest.raises(CheckpointError, match="left by another version; remove it$"):
        calibrate(out)
