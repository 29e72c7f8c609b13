"""A job resumes after a kill at any point."""

import fcntl
import os
import signal

import pytest

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint

from support.forked import run_forked
from support.golden_helpers import contents, message
from support.job_helpers import everything, journal, kill, packed_of, sharded_model, spy_on_writes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return sharded_model(tmp_path_factory)


@pytest.fixture(scope="module")
def packed(model):
    return packed_of(model)


@pytest.fixture
def written(monkeypatch):
    return spy_on_writes(monkeypatch)


@pytest.mark.parametrize("last", [1, 4, 7, 12])
def test_resumes_after_a_kill_between_tensors(model, packed, tmp_path, written, last):
    kill(model, tmp_path / "o", 2, "report", last)
    assert [path.name for path in tmp_path.iterdir()] == ["o.partial"]
    _, done = journal(tmp_path / "o.partial")
    # Reports come in file order: any number of later tensors may be recorded before an earlier one.
    assert len(done) >= last
    reports = []
    report = pack_checkpoint(model, tmp_path / "o", 2, progress=reports.append)
    assert contents(tmp_path / "o") == contents(packed)
    assert tuple(reports) == report.tensors
    tensors = [tensor for name, tensor in everything(packed) if module_of(name) not in {
        module_of(each) for each in done}]
    shards = len(list(packed.glob("*.safetensors")))
    # Each tensor that was not done, once; of finished shards the header alone, again.
    assert len(written) == len(tensors) + shards


def module_of(name):
    for ending in (".trits", ".scales"):
        name = name.replace(ending, ".weight")
    return name


@pytest.mark.parametrize("last", [1, 2, 5, 9, 16, 17])
def test_resumes_after_a_kill_within_a_write(model, packed, tmp_path, last):
    kill(model, tmp_path / "o", 2, "write", last)
    assert [path.name for path in tmp_path.iterdir()] == ["o.partial"]
    pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == contents(packed)


def test_resumes_after_many_kills(model, packed, tmp_path):
    for _ in range(5):
        kill(model, tmp_path / "o", 2, "write", 4)
    pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == contents(packed)


@pytest.mark.parametrize("last", [1, 5, 11])
def test_export_resumes_after_a_kill(packed, tmp_path, last):
    export(packed, tmp_path / "whole")
    for kind in ("report", "write"):
        kill(packed, tmp_path / kind, "export", kind, last)
        assert not (tmp_path / kind).exists()
        export(packed, tmp_path / kind)
        assert contents(tmp_path / kind) == contents(tmp_path / "whole")


def lose(partial, cut):
    """Remove the first shard, or its end."""
    shard = min(partial.glob("*.safetensors"))
    if cut:
        os.truncate(shard, shard.stat().st_size - cut)
    else:
        shard.unlink()


@pytest.mark.parametrize("cut", [0, 1, 5000])
def test_writes_a_lost_shard_again(model, packed, tmp_path, cut):
    kill(model, tmp_path / "o", 2, "report", 8)
    lose(tmp_path / "o.partial", cut)
    # A second kill, so that the shard has its full size, but lacks some tensors of the journal.
    kill(model, tmp_path / "o", 2, "report", 2)
    reports = []
    report = pack_checkpoint(model, tmp_path / "o", 2, progress=reports.append)
    assert contents(tmp_path / "o") == contents(packed)
    assert tuple(reports) == report.tensors


@pytest.mark.parametrize("cut", [0, 1])
def test_exports_a_lost_shard_again(packed, tmp_path, cut):
    export(packed, tmp_path / "whole")
    kill(packed, tmp_path / "o", "export", "report", 8)
    lose(tmp_path / "o.partial", cut)
    export(packed, tmp_path / "o")
    assert contents(tmp_path / "o") == contents(tmp_path / "whole")


@pytest.mark.parametrize("rest", [b"", b'["model.norm.weight"', b'["x",\n', b"\0\0\0\n{}\n"])
def test_cut_line_of_the_journal_does_not_count(model, packed, tmp_path, rest):
    kill(model, tmp_path / "o", 2, "report", 3)
    with (tmp_path / "o.partial" / ".journal.jsonl").open("ab") as file:
        file.write(rest)
    pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == contents(packed)


def test_kill_before_the_first_line_of_the_journal(model, packed, tmp_path):
    (tmp_path / "o.partial").mkdir()
    (tmp_path / "o.partial" / ".journal.jsonl").write_bytes(b'{"job":"pa')
    pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == contents(packed)


def test_kill_between_two_renames_of_a_replacement(model, packed, tmp_path):
    kill(model, tmp_path / "o", 2, "write", 17)
    (tmp_path / "o.replaced").mkdir()
    pack_checkpoint(model, tmp_path / "o", 2, force=True)
    assert contents(tmp_path / "o") == contents(packed)


#: Packs argv[1] into argv[2] and kills itself right before (0) or after (1) a rename to OUT, or
#: before the journal goes.
KILL_AT_END = """
import os, pathlib, signal, sys
from tritstream.golden.quantizers.registry import method_of
from tritstream.golden.packed.pack import pack_checkpoint

def dying(name, fits, after=False):
    real = getattr(pathlib.Path, name)
    def call(path, *rest, **options):
        last = fits(path, *rest)
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        real(path, *rest, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(pathlib.Path, name, call)

out = pathlib.Path(sys.argv[2])
if sys.argv[3] == "unlink":
    dying("unlink", lambda path, *_: path == out / ".journal.jsonl")
else:
    dying("rename", lambda _, to: to == out, sys.argv[3] == "after")
pack_checkpoint(sys.argv[1], out, 2, force=sys.argv[4] == "True",
                method=method_of("search", "numpy"))
"""


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("point", ["before", "after", "unlink"])
def test_resumes_after_a_kill_at_the_end(model, packed, tmp_path, point, force):
    out = tmp_path / "o"
    if force:
        pack_checkpoint(model, out, 3)
    finished = run_forked(KILL_AT_END, model, out, point, force)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert out.exists() == (point != "before")
    report = pack_checkpoint(model, out, 2, force=force)
    assert len(report.tensors) == 12
    assert contents(out) == contents(packed)
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


@pytest.fixture
def named(model, tmp_path):
    """A checkpoint that a kill left with its journal."""
    finished = run_forked(KILL_AT_END, model, tmp_path / "o", "unlink", False)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    return tmp_path / "o"


def test_journal_does_not_go_with_the_weights(packed, named, tmp_path):
    export(named, tmp_path / "e")
    export(packed, tmp_path / "whole")
    assert contents(tmp_path / "e") == contents(tmp_path / "whole")


def test_lost_shard_of_a_checkpoint_with_its_journal(model, packed, named):
    lose(named, 0)
    pack_checkpoint(model, named, 2)
    assert contents(named) == contents(packed)


def test_other_job_leaves_a_checkpoint_with_its_journal(model, named, tmp_path):
    before = contents(named)
    with pytest.raises(CheckpointError, match=message(
            f"{named}: exists already; remove it, choose another, or force")):
        pack_checkpoint(model, named, 3)
    assert contents(named) == before
    pack_checkpoint(model, named, 3, force=True)
    pack_checkpoint(model, tmp_path / "fresh", 3)
    assert contents(named) == contents(tmp_path / "fresh")


def test_checkpoint_that_another_process_is_about_to_finish(model, named):
    with (named / ".journal.jsonl").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match=message(
                f"{named}: another process is writing it; wait for it")):
            pack_checkpoint(model, named, 2)


def test_job_that_another_process_finished_meanwhile(tmp_path, monkeypatch):
    real = fcntl.flock
    (tmp_path / "o.partial").mkdir()

    def late(file, how):
        (tmp_path / "o.partial").rename(tmp_path / "o")
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o.partial'}: another process is writing it; wait for it")):
        Job(tmp_path / "o", {"job": "x"})
