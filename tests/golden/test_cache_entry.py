"""Entries of the cache: damage, other users, concurrent builds, full disks."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tritstream.golden.cache_entry import cached
from tritstream.golden.errors import CheckpointError

from support.cache_helpers import files, needs_root
from support.golden_helpers import ROOT, run_python


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(b""), lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: path.write_bytes(b"C" + path.read_bytes()[1:]), lambda path: path.unlink(),
    lambda path: path.chmod(0o666),
])
def test_a_damaged_entry_is_made_again(cache, damage):
    made = []
    first = cached("a", ".so", lambda: made.append(1) or b"code")
    assert cached("a", ".so", lambda: made.append(1) or b"code") == first
    damage(first)
    assert cached("a", ".so", lambda: made.append(1) or b"code") == first
    assert first.read_bytes() == b"code" and len(made) == 2
    assert files(cache) == [first.name] and first.stat().st_mode & 0o777 == 0o600


@needs_root
def test_an_entry_of_another_user_is_made_again(cache):
    path = cached("a", ".so", lambda: b"code")
    os.chown(path, 4242, 4242)
    cached("a", ".so", lambda: b"code")
    assert path.stat().st_uid == os.geteuid()


def test_a_link_is_no_entry(cache, tmp_path):
    path = cached("a", ".so", lambda: b"code")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert not cached("a", ".so", lambda: b"code").is_symlink()


def test_two_builds_at_the_same_time_are_one(cache):
    ready, made, found = threading.Barrier(4), [], []

    def make():
        made.append(1)
        threading.Event().wait(0.2)
        return b"code"

    def ask():
        ready.wait()
        found.append(cached("a", ".so", make))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(set(found)) == 1
    assert files(cache) == [found[0].name]


def test_a_lock_that_is_removed_while_it_is_looked_at(cache, monkeypatch):
    """Another build removes its lock after this one has got it, at the first look."""
    looks = []

    def exists(path, look=Path.stat, **options):
        if path.name == ".a.lock":
            looks.append(path)
            if len(looks) == 1:
                path.unlink()
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", exists)
    assert cached("a", ".so", lambda: b"code").read_bytes() == b"code"
    assert len(looks) == 2 and not (cache / ".a.lock").exists()


#: Makes an entry of argv[1] that takes a moment; prints its path and whether it was made here.
BUILD = """
import sys, time
from tritstream.golden.cache_entry import cached

made = []
def make():
    made.append(1)
    time.sleep(1)
    return sys.argv[2].encode()
print(cached(sys.argv[1], ".so", make), len(made))
"""


def test_two_processes_at_the_same_time_are_one(cache):
    processes = [subprocess.Popen([sys.executable, "-c", BUILD, "a", "code"], cwd=ROOT, text=True,
                                  stdout=subprocess.PIPE,
                                  env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(3)]
    said = [process.communicate(timeout=300)[0].split() for process in processes]
    assert sorted(count for _, count in said) == ["0", "0", "1"]
    assert len({path for path, _ in said}) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing(cache, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CheckpointError, match=(
            rf"^{cache}: cannot write a-[0-9a-f]+\.so: No space left on device; free some space "
            "and run the same command again$")):
        cached("a", ".so", lambda: b"code")
    assert not files(cache)
    monkeypatch.undo()


#: Makes an entry where no file may be larger than 100 bytes.
LIMITED = """
import resource, signal
from tritstream.golden.cache_entry import cached

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    cached("a", ".so", lambda: bytes(1000))
except ValueError as error:
    print(error)
"""


def test_a_write_that_stops_in_the_middle(cache):
    finished = run_python(LIMITED)
    assert "File too large; raise the limit" in finished.stdout, finished.stderr
    assert not files(cache)


def test_the_rest_of_a_killed_build_goes(cache):
    cache.mkdir(mode=0o700)
    (cache / ".a-0.so.12345.partial").write_bytes(b"co")
    (cache / ".a.lock").touch()
    path = cached("a", ".so", lambda: b"code")
    assert files(cache) == [path.name]
