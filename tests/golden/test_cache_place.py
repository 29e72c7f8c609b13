"""Place of the cache, also for users without a home directory."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from tritstream.golden.cache_entry import cached
from tritstream.golden.cache_place import cache_dir, scratch, tool_environment
from tritstream.golden.errors import CheckpointError

from support.cache_helpers import files, needs_root
from support.golden_helpers import run_python


def message_of(capsys):
    """Return what was printed: one line on standard error, or nothing."""
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") <= 1
    return err.rstrip("\n")


def test_the_variable_is_first(cache, capsys):
    assert cache_dir() == cache
    assert cache.stat().st_mode & 0o777 == 0o700
    assert message_of(capsys) == ""


def test_then_the_cache_of_the_user(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TRITSTREAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "tritstream"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "tritstream"
    assert message_of(capsys) == ""


@pytest.mark.parametrize("home", ["/proc/none", "/etc/passwd/home"])
def test_then_a_directory_of_temporary_files_with_a_note(
        cache, tmp_path, monkeypatch, capsys, home):
    monkeypatch.setenv("TRITSTREAM_CACHE", f"{home}/cache")
    monkeypatch.setenv("HOME", home)
    own = tmp_path / f"tritstream-{os.geteuid()}"
    assert cache_dir() == own
    said = message_of(capsys)
    assert said.startswith(f"note: the cache is {own}, because {home}/cache cannot be written (")
    assert f" and {home}/.cache/tritstream cannot be written (" in said
    assert said.endswith("; set TRITSTREAM_CACHE to a directory of your own to choose another")
    assert cache_dir() == own and message_of(capsys) == ""


def test_no_place_at_all(cache, monkeypatch):
    def no_place():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.delenv("TRITSTREAM_CACHE")
    monkeypatch.setattr(tempfile, "gettempdir", no_place)
    with pytest.raises(CheckpointError, match="^no place for the cache: .* cannot be written"):
        cache_dir()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_directory_that_others_can_write_is_not_used(cache, tmp_path, capsys, mode):
    cache.mkdir()
    cache.chmod(mode)
    assert cache_dir() == tmp_path / f"tritstream-{os.geteuid()}"
    assert f"{cache} can be written by other users" in message_of(capsys)
    assert not files(cache)


@needs_root
def test_a_directory_of_another_user_is_not_used(cache, tmp_path, capsys):
    cache.mkdir()
    os.chown(cache, 4242, 4242)
    own = tmp_path / f"tritstream-{os.geteuid()}"
    own.mkdir()
    os.chown(own, 4242, 4242)
    assert cache_dir() not in (cache, own)
    assert f"{cache} belongs to another user" in message_of(capsys)


def test_a_link_among_temporary_files_is_not_followed(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("TRITSTREAM_CACHE")
    (tmp_path / "trap").mkdir()
    (tmp_path / f"tritstream-{os.geteuid()}").symlink_to(tmp_path / "trap")
    found = cache_dir()
    cached("a", ".so", lambda: b"code")
    assert found.parent == tmp_path and not files(tmp_path / "trap")


def test_the_cache_of_an_earlier_version_becomes_private(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TRITSTREAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tritstream").mkdir()
    (tmp_path / "tritstream").chmod(0o775)
    assert cache_dir() == tmp_path / "tritstream" and message_of(capsys) == ""
    assert cache_dir().stat().st_mode & 0o777 == 0o700


@needs_root
def test_a_user_without_rights(cache):
    """Runs in a process of another user, because root may write everywhere."""
    cache.mkdir()
    code = ("import os, sys, tempfile; from tritstream.golden import cache_place; "
            "os.setgroups([]); os.setgid(4242); os.setuid(4242); tempfile.tempdir = sys.argv[1]; "
            "print(cache_place.cache_dir())")
    with tempfile.TemporaryDirectory(dir="/tmp") as spool:
        Path(spool).chmod(0o1777)
        finished = run_python(code, spool)
    assert finished.stdout == f"{spool}/tritstream-4242\n", finished.stderr
    # Only root can read the directories of pytest.
    assert f"{cache} cannot be written (Permission denied)" in finished.stderr


def test_temporary_folders_where_the_system_has_none(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with scratch() as folder:
        assert folder.parent == cache
    assert tool_environment()["TMPDIR"] == str(cache)
    assert not files(cache)


def test_caches_of_tools_follow(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("YOWASP_CACHE_DIR", raising=False)
    assert tool_environment()["XDG_CACHE_HOME"] == str(cache / "tools")
    assert tool_environment()["YOWASP_CACHE_DIR"] == str(cache / "tools" / "YoWASP")
    monkeypatch.delenv("TRITSTREAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tool_environment()["YOWASP_CACHE_DIR"] == str(tmp_path / "YoWASP")
    monkeypatch.setenv("YOWASP_CACHE_DIR", "/x")
    assert tool_environment()["YOWASP_CACHE_DIR"] == "/x"


def test_a_disk_that_is_full_while_tools_work(cache):
    with pytest.raises(CheckpointError, match=(
            "cannot write top.v: No space left on device; free some space and run")), \
            scratch() as folder:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "top.v"))
    assert not folder.exists()
