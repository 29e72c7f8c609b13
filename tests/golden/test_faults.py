"""Faults of a real command: it resumes after each, with the bytes of an undisturbed run."""

import os
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tritstream.golden.packed.pack import pack_checkpoint

from support.forked import GOLDEN, run_forked
from support.golden_helpers import contents, save_halves, write_json

COUNT, ROWS, COLUMNS = 8, 514, 1024

#: The command argv[4:], which sends itself the signal argv[2], argv[3] seconds after argv[1] more
#: tensors are finished. So it is disturbed in its midst, however fast the machine is.
DISTURBED = """
import os, signal, sys
from threading import Timer
from tritstream.golden.jobs.journal import Journal
from tritstream.scripts.cli import main

left, number, delay, *sys.argv[1:] = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
record = Journal.record

def recorded(journal, *line):
    global left
    record(journal, *line)
    left -= 1
    if left == 0 and float(delay):
        Timer(float(delay), os.kill, (os.getpid(), number)).start()
    elif left == 0:
        os.kill(os.getpid(), number)

Journal.record = recorded
main()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Matrices of three pieces each, in two files, and an embedding."""
    path = tmp_path_factory.mktemp("model") / "m"
    path.mkdir()
    rng = np.random.default_rng(0)
    halves = []
    for half in range(2):
        halves.append({f"layers.{number:02}.weight": rng.standard_normal((ROWS, COLUMNS)).astype(
            np.float16) for number in range(half * COUNT // 2, (half + 1) * COUNT // 2)})
        halves[-1][f"embed.{half}.weight"] = rng.standard_normal((2000, COLUMNS)).astype(
            np.float16)
    write_json(path / "config.json", {})
    save_halves(path, halves)
    return path


@pytest.fixture(scope="module")
def packed(model):
    """Output of an undisturbed run."""
    pack_checkpoint(model, model.parent / "packed", 3)
    return contents(model.parent / "packed")


#: The command argv[1:], whose files have 5 MB at most.
LIMITED = """
import resource
from tritstream.scripts.cli import main

# Python ignores SIGXFSZ: a write beyond the limit is an error.
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, resource.RLIM_INFINITY))
main()
"""
PLAIN = "from tritstream.scripts.cli import main; main()"


def command(program, model, out, *arguments):
    """Exit status and standard error of the command."""
    done = run_forked(program, *arguments, "quantize", model, "-o", out,
                      modules=(*GOLDEN, "tritstream.scripts.cli"))
    return done.returncode, done.stderr


def journalled(out):
    """Whole lines of the journal, the first aside."""
    path = Path(f"{out}.partial") / ".journal.jsonl"
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.is_file() else 0


def disturb(model, out, count, number, delay=0.0):
    """Send a signal when so many more tensors are done; exit status, message, tensors done."""
    return *command(DISTURBED, model, out, count, int(number), delay), journalled(out)


def check_rest(out):
    """There is no output yet, and files have their size or are not there."""
    assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == [f"{out.name}.partial"]


def check_end(model, out, packed):
    """Check that the job resumes, writes the same bytes, and leaves no other file."""
    pack_checkpoint(model, out, 3)
    assert contents(out) == packed
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_ctrl_c(model, packed, tmp_path):
    status, error, done = disturb(model, tmp_path / "o", 5, signal.SIGINT)
    assert (status, error) == (130, "interrupted: run the command again to resume\n")
    assert 5 <= done < COUNT
    check_rest(tmp_path / "o")
    check_end(model, tmp_path / "o", packed)


def test_kill_twice(model, packed, tmp_path):
    for more, together in ((3, 3), (4, 7)):
        status, _, done = disturb(model, tmp_path / "o", more, signal.SIGKILL)
        assert (status, done) == (-signal.SIGKILL, together)
        check_rest(tmp_path / "o")
    check_end(model, tmp_path / "o", packed)


def test_limit_of_the_size_of_files(model, packed, tmp_path):
    status, error = command(LIMITED, model, tmp_path / "o")
    assert status == 1
    assert error == (f"error: {tmp_path}/o.partial: cannot write packed-00001-of-00002."
                     "safetensors: File too large; raise the limit on file sizes (ulimit -f) and "
                     "run the same command again\n")
    check_rest(tmp_path / "o")
    check_end(model, tmp_path / "o", packed)


@pytest.fixture
def small_disk(tmp_path):
    """File system of 9 MB, which is smaller than the output.

    Mounting it requires root. Without root, only tests/golden/jobs/test_job_disk.py tests this:
    there the call that writes raises the error of a full disk.
    """
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_full_disk(model, packed, small_disk):
    out = small_disk / "o"
    status, error = command(PLAIN, model, out)
    assert status == 1
    assert error.endswith("No space left on device; free some space and run the same command "
                          "again\n")
    assert error.count("\n") == 1
    assert journalled(out) > 0
    check_rest(out)
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    check_end(model, out, packed)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seed", range(10))
def test_signals_at_random_times(model, packed, tmp_path, number, seed):
    rng = random.Random(f"{number} {seed}")
    for _ in range(6):
        disturb(model, tmp_path / "o", rng.randrange(1, COUNT // 2), number, rng.random() / 10)
        if (tmp_path / "o").exists():
            break
        check_rest(tmp_path / "o")
    if not (tmp_path / "o").exists():
        check_end(model, tmp_path / "o", packed)
    assert contents(tmp_path / "o") == packed
