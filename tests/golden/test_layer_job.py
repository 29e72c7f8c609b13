"""Work layer by layer that was killed resumes at the step, and gives the same bytes."""

import signal

import numpy as np
import pytest

from tritstream.golden.calibration_job import CalibrationJob
from tritstream.golden.errors import CheckpointError
from tritstream.golden.layer_job import LayerJob
from tritstream.golden.quantizers.moments import (
    Moment,
    Moments,
    moment_arrays,
    moment_entries,
    moments_metadata,
)

from support.forked import run_forked
from support.golden_helpers import message

JOB = {"model": "m, files 0", "loading": "layer by layer"}
MADE_OF = {"text": "a.txt"}
STEPS = ("inputs-0", "inputs-1", "derivatives-1", "derivatives-0")
SHAPES = [(4, 3), (4, 3), (1, 3)]
MATRIX = (2, 3)


def vectors(step, job):
    """Three windows of vectors, made of those of the step before."""
    index = STEPS.index(step)
    before = job.read(STEPS[index - 1]) if index else [np.zeros(shape) for shape in SHAPES]
    for window, values in enumerate(before):
        yield (values + np.float32(index + window / 8)).astype(np.float32)


def moments(step):
    value = np.float32(STEPS.index(step))
    moment = Moment(np.full((3, 3), value), np.full(2, value))
    return moment_arrays("m", step, moment) if value > 1 else {}


def allocate(job, steps):
    job.allocate([entry for step in steps for entry in moment_entries(step, MATRIX)],
                 moments_metadata(MADE_OF))


def calibrate(output, job=JOB, stop=None, **options):
    """Return the steps that a run takes, or None if an earlier run was complete."""
    with LayerJob(output, job, **options) as running:
        if running.finished:
            return None
        allocate(running, STEPS[2:])
        left = [step for step in STEPS if step not in running]
        for step in left:
            if step == stop:
                return left
            running.run(step, vectors(step, running), SHAPES, lambda step=step: moments(step))
            for old in STEPS[:STEPS.index(step)]:
                running.remove(old)
        running.finish()
        return left


@pytest.fixture
def out(tmp_path):
    return tmp_path / "m.safetensors"


@pytest.fixture
def expected(out):
    """The bytes of a run that nothing disturbs."""
    path = out.with_name("whole.safetensors")
    assert calibrate(path) == list(STEPS)
    assert [file.name for file in out.parent.iterdir()] == [path.name]
    found = Moments(path)
    assert found.made_of == MADE_OF
    assert (found.of("derivatives-0", MATRIX).inputs == 3).all()
    data = path.read_bytes()
    path.unlink()
    return data


#: Calibrates into argv[2], the tests being in argv[1], and kills itself at the n-th call of a
#: function: before it, after it, or for a write, when half has gone out.
KILL = """
import os, pathlib, signal, sys
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from pathlib import Path
import test_layer_job as here

owner, name, last, point = sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6]
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
    ("os.pwrite", 2, "half", 4),      # the second window of the first step
    ("os.pwrite", 4, "half", 4),      # the header of its file
    ("os.pwrite", 6, "half", 3),      # the second step
    ("os.pwrite", 13, "half", 2),     # the first statistics
    ("os.pwrite", 14, "before", 2),
    ("os.pwrite", 20, "half", 1),     # the last statistics
    ("os.pwrite", 21, "half", 0),     # the header of the calibration file
    ("Path.unlink", 1, "before", 2),  # vectors that no later step reads
    ("Path.unlink", 1, "after", 2),
    ("Path.unlink", 3, "after", 1),
    ("Path.replace", 1, "before", None),
    ("Path.replace", 1, "after", None),
])
def test_resumes_after_a_kill(out, expected, call, last, point, left):
    owner, name = call.split(".")
    finished = run_forked(KILL, __file__.rpartition("/")[0], out, owner, name, last, point)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    found = calibrate(out)
    assert (found if found is None else len(found)) == left
    assert out.read_bytes() == expected
    assert [file.name for file in out.parent.iterdir()] == [out.name]


def test_statistics_that_are_gone_are_measured_again(out, expected):
    calibrate(out, stop="derivatives-0")
    (out.with_name("m.safetensors.partial") / "result.safetensors").unlink()
    assert calibrate(out) == list(STEPS)
    assert out.read_bytes() == expected


@pytest.mark.parametrize("damage", ["flip", "cut", "other"])
def test_damaged_vectors_are_refused(out, damage):
    calibrate(out, stop="derivatives-1")
    path = out.with_name("m.safetensors.partial") / "inputs-1.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    path.write_bytes(data[:-4] if damage == "cut" else data)
    if damage == "other":
        path.write_bytes(data.replace(b'"1"', b'"7"', 1))
    advice = (f"{path}: cut short" if damage == "cut" else
              f"{path}: is damaged; remove {path.parent}, and start again")
    with pytest.raises(CheckpointError, match=message(advice).rstrip("$")):
        calibrate(out)


def test_the_job_of_a_complete_model_is_another_one(out, expected):
    with CalibrationJob(out, JOB | {"loading": "complete model"}) as other:
        other.offer({"a": np.zeros(3, np.float32)}, 1)
    with pytest.raises(CheckpointError, match=message(
            f"{out}.partial: was left by a calibration with another loading (complete model, not "
            "layer by layer); finish that calibration, choose another output, or force")):
        calibrate(out)
    assert calibrate(out, force=True) == list(STEPS)
    assert out.read_bytes() == expected
    calibrate(out.with_name("b.safetensors"), stop="derivatives-1")
    with CalibrationJob(out.with_name("b.safetensors"), {"loading": "x"}, force=True) as other:
        assert [path.name for path in other.partial.iterdir()] == [".journal.jsonl"]
