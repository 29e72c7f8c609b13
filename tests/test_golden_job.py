import errno
import fcntl
import json
import os
import shutil
import signal
import threading
import zlib
from pathlib import Path

import pytest
from golden_helpers import contents, make_checkpoint, message, run_python

from golden.checkpoint import PackedCheckpoint
from golden.export import export
from golden.job import Job
from golden.packer import pack_checkpoint
from golden.sources import CheckpointError

#: Packs argv[1] into argv[2] and kills itself: after the n-th report, or in the midst of the
#: n-th write, of which half has gone out.
KILL = """
import os, signal, sys
from golden.packer import pack_checkpoint
from golden.export import export
from golden.methods import method_of

seen = 0

def count(last):
    global seen
    seen += 1
    if seen == last:
        os.kill(os.getpid(), signal.SIGKILL)

def half(file, data, place, pwrite=os.pwrite):
    global seen
    if seen + 1 == int(sys.argv[5]):
        pwrite(file, data[:len(data) // 2], place)
    count(int(sys.argv[5]))
    return pwrite(file, data, place)

def report(_):
    if sys.argv[4] == "report":
        count(int(sys.argv[5]))

if sys.argv[4] == "write":
    os.pwrite = half
if sys.argv[3] == "export":
    export(sys.argv[1], sys.argv[2], report)
else:
    # Without numba, which takes longer to import than all of this.
    pack_checkpoint(sys.argv[1], sys.argv[2], int(sys.argv[3]), progress=report,
                    method=method_of("tritllm-v2", "numpy"))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    make_checkpoint(path, sharded=True)
    return path


@pytest.fixture(scope="module")
def packed(model):
    pack_checkpoint(model, model.parent / "packed", 2)
    return model.parent / "packed"


def kill(*arguments):
    finished = run_python(KILL, *arguments)
    assert finished.returncode == -signal.SIGKILL, finished.stderr


def journal(partial):
    """Parameters and names in the journal."""
    lines = (partial / ".journal.jsonl").read_bytes().splitlines()
    parameters, *records = [json.loads(line) for line in lines]
    return parameters, [name for name, _ in records]


@pytest.fixture
def written(monkeypatch):
    """Sizes of the writes of this process to shards."""
    sizes = []
    pwrite = os.pwrite

    def spy(file, data, place):
        sizes.append(len(data))
        return pwrite(file, data, place)

    monkeypatch.setattr(os, "pwrite", spy)
    return sizes


@pytest.mark.parametrize("last", [1, 4, 7, 12])
def test_goes_on_after_a_kill_between_tensors(model, packed, tmp_path, written, last):
    kill(model, tmp_path / "o", 2, "report", last)
    assert [path.name for path in tmp_path.iterdir()] == ["o.partial"]
    _, done = journal(tmp_path / "o.partial")
    assert last <= len(done) < last + 4      # those in flight
    reports = []
    report = pack_checkpoint(model, tmp_path / "o", 2, progress=reports.append)
    assert contents(tmp_path / "o") == contents(packed)
    assert tuple(reports) == report.tensors
    tensors = [tensor for name, tensor in everything(packed) if module_of(name) not in {
        module_of(each) for each in done}]
    shards = len(list(packed.glob("*.safetensors")))
    # Each tensor that was not done, once; of finished shards the header alone, again.
    assert len(written) == len(tensors) + shards


def everything(path):
    checkpoint = PackedCheckpoint(path)
    return [(name, tensor) for shard in checkpoint.shards.values()
            for name, tensor in shard.tensors.items()]


def module_of(name):
    for ending in (".trits", ".scales"):
        name = name.replace(ending, ".weight")
    return name


@pytest.mark.parametrize("last", [1, 2, 5, 9, 16, 17])
def test_goes_on_after_a_kill_within_a_write(model, packed, tmp_path, last):
    kill(model, tmp_path / "o", 2, "write", last)
    assert [path.name for path in tmp_path.iterdir()] == ["o.partial"]
    pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == contents(packed)


def test_goes_on_after_many_kills(model, packed, tmp_path):
    for _ in range(5):
        kill(model, tmp_path / "o", 2, "write", 4)
    pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == contents(packed)


@pytest.mark.parametrize("last", [1, 5, 11])
def test_export_goes_on_after_a_kill(packed, tmp_path, last):
    export(packed, tmp_path / "whole")
    for kind in ("report", "write"):
        kill(packed, tmp_path / kind, "export", kind, last)
        assert not (tmp_path / kind).exists()
        export(packed, tmp_path / kind)
        assert contents(tmp_path / kind) == contents(tmp_path / "whole")


def lose(partial, cut):
    """Take the first shard away, or the end of it."""
    shard = min(partial.glob("*.safetensors"))
    if cut:
        os.truncate(shard, shard.stat().st_size - cut)
    else:
        shard.unlink()


@pytest.mark.parametrize("cut", [0, 1, 5000])
def test_writes_a_lost_shard_again(model, packed, tmp_path, cut):
    kill(model, tmp_path / "o", 2, "report", 8)
    lose(tmp_path / "o.partial", cut)
    # Again, so that the shard has its full size, but not all that the journal said of it.
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
from golden.methods import method_of
from golden.packer import pack_checkpoint

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
                method=method_of("tritllm-v2", "numpy"))
"""


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("point", ["before", "after", "unlink"])
def test_goes_on_after_a_kill_at_the_end(model, packed, tmp_path, point, force):
    out = tmp_path / "o"
    if force:
        pack_checkpoint(model, out, 3)
    finished = run_python(KILL_AT_END, model, out, point, force)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert out.exists() == (point != "before")
    report = pack_checkpoint(model, out, 2, force=force)
    assert len(report.tensors) == 12
    assert contents(out) == contents(packed)
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


@pytest.fixture
def named(model, tmp_path):
    """A checkpoint that a kill left with its journal."""
    finished = run_python(KILL_AT_END, model, tmp_path / "o", "unlink", False)
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


def test_file_called_as_a_journal_goes_along(tmp_path):
    make_checkpoint(tmp_path / "m")
    (tmp_path / "m" / "journal.jsonl").write_bytes(b"{}\n")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    assert (tmp_path / "o" / "journal.jsonl").read_bytes() == b"{}\n"


@pytest.mark.parametrize("change", ["depth", "depths", "weights", "companion", "kept"])
def test_rest_of_another_job(packed, tmp_path, change):
    model, out = tmp_path / "m", tmp_path / "o"
    make_checkpoint(model, sharded=True)
    kill(model, out, 3 if change == "depth" else 2, "report", 3)
    options = {"kept": {"modules_to_not_convert": ["mlp"]},
               "depths": {"overrides": {"*.up_proj": 1}}}.get(change, {})
    if change == "weights":
        os.utime(next(model.glob("*.safetensors")), (0, 0))
    if change == "companion":
        (model / "merges.txt").write_text("a b\n")
    before = contents(tmp_path / "o.partial")
    with pytest.raises(CheckpointError, match=message(
            f"{out}.partial: left by another job; remove it, or force")):
        pack_checkpoint(model, out, 2, **options)
    assert contents(tmp_path / "o.partial") == before
    pack_checkpoint(model, out, 2, force=True, **options)
    pack_checkpoint(model, tmp_path / "fresh", 2, **options)
    assert contents(out) == contents(tmp_path / "fresh")


def test_directory_that_is_no_job(model, tmp_path):
    (tmp_path / "o.partial").mkdir()
    (tmp_path / "o.partial" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o.partial'}: left by another job; remove it, or force")):
        pack_checkpoint(model, tmp_path / "o", 2)
    assert (tmp_path / "o.partial" / "thesis.txt").exists()


def test_forced_run_of_the_same_job_goes_on(model, tmp_path, written):
    kill(model, tmp_path / "o", 2, "report", 12)
    pack_checkpoint(model, tmp_path / "o", 2, force=True)
    assert len(written) < 10


def test_output_that_exists(model, packed, tmp_path):
    pack_checkpoint(model, tmp_path / "o", 3)
    before = contents(tmp_path / "o")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o'}: exists already; remove it, choose another, or force")):
        pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == before
    pack_checkpoint(model, tmp_path / "o", 2, force=True)
    assert contents(tmp_path / "o") == contents(packed)
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_force_takes_an_empty_directory(model, packed, tmp_path):
    (tmp_path / "o").mkdir()
    pack_checkpoint(model, tmp_path / "o", 2, force=True)
    assert contents(tmp_path / "o") == contents(packed)


def test_force_replaces_checkpoints_only(model, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    for out in (tmp_path / "o", tmp_path / "file"):
        with pytest.raises(CheckpointError, match=message(
                f"{out}: is not a checkpoint, so it is not replaced; choose another")):
            pack_checkpoint(model, out, 2, force=True)
    assert (tmp_path / "o" / "thesis.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "o"]


def test_output_never_replaces_its_source(model, packed):
    before = contents(model)
    for out in (model, model.parent):
        with pytest.raises(CheckpointError, match=message(
                f"{out}: must not be the source or hold it; choose another")):
            pack_checkpoint(model, out, 2, force=True)
    with pytest.raises(CheckpointError, match=message(
            f"{packed}: must not be the source or hold it; choose another")):
        export(packed, packed, force=True)
    assert contents(model) == before


def test_one_process_at_a_time(tmp_path):
    with Job(tmp_path / "o", {"job": "x"}):
        with pytest.raises(CheckpointError, match=message(
                f"{tmp_path / 'o.partial'}: another process is writing it; wait for it")):
            Job(tmp_path / "o", {"job": "x"})
    with Job(tmp_path / "o", {"job": "x"}) as job:
        assert job.done == {}


def message_of_a_full_disk(path, name):
    return (f"^{path / 'o.partial'}: cannot write {name}: No space left on device; free some space "
            "and run the same command again$")


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_full_disk(model, packed, tmp_path, monkeypatch, call):
    calls, real = [], getattr(os, call)

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(CheckpointError, match=message_of_a_full_disk(tmp_path, r"\S+")):
        pack_checkpoint(model, tmp_path / "o", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["o.partial"]
    monkeypatch.undo()
    pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == contents(packed)


@pytest.mark.parametrize(("module", "call", "name"), [
    (os, "pwrite", "model-00001-of-00002.safetensors"),
    (os, "ftruncate", "model-00001-of-00002.safetensors"),
    (os, "fsync", ".journal.jsonl"),
    (shutil, "copyfileobj", "LICENSE"),
    (Path, "write_text", "config.json"),
])
def test_message_of_a_full_disk(model, packed, tmp_path, monkeypatch, module, call, name):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, call, fail)
    with pytest.raises(CheckpointError, match=message_of_a_full_disk(tmp_path, name)):
        pack_checkpoint(model, tmp_path / "o", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["o.partial"]
    monkeypatch.undo()
    pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == contents(packed)


#: Packs argv[1] into argv[2] where no file may be larger than argv[3] bytes; prints the refusal.
LIMITED = """
import resource, signal, sys
from golden.packer import pack_checkpoint
from golden.shards import CheckpointError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    pack_checkpoint(sys.argv[1], sys.argv[2], 2)
except CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "name"), [
    (100, ".journal.jsonl"), (2000, "model-00001-of-00002.safetensors"),
    (15000, "config.json"), (40000, "tokenizer.json"),
])
def test_limit_of_the_size_of_a_file(tmp_path, limit, name):
    model, out = tmp_path / "m", tmp_path / "d" / "o"
    make_checkpoint(model, sharded=True)
    (model / "config.json").write_text(json.dumps({"words": "x" * 30000}))
    (model / "tokenizer.json").write_text(json.dumps({"words": "x" * 60000}))
    finished = run_python(LIMITED, model, out, limit)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == (
        f"{out}.partial: cannot write {name}: File too large; raise the limit on file sizes "
        "(ulimit -f) and run the same command again\n")
    assert [path.name for path in out.parent.iterdir()] == ["o.partial"]
    pack_checkpoint(model, out, 2)
    pack_checkpoint(model, tmp_path / "whole", 2)
    assert contents(out) == contents(tmp_path / "whole")


def test_output_below_a_file(model, packed, tmp_path):
    (tmp_path / "file").write_text("years of work")
    for act in (lambda out: pack_checkpoint(model, out, 2), lambda out: export(packed, out)):
        with pytest.raises(CheckpointError, match=message(
                f"{tmp_path / 'file'}: cannot write o.partial: Not a directory; make it a "
                "directory and run the same command again")):
            act(tmp_path / "file" / "o")
    assert (tmp_path / "file").read_text() == "years of work"


def test_partial_output_that_is_a_file(model, tmp_path):
    (tmp_path / "o.partial").write_text("years of work")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path}: cannot write o.partial: File exists; move what is there and run the "
            "same command again")):
        pack_checkpoint(model, tmp_path / "o", 2)


def test_short_writes_are_completed(model, packed, tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: pwrite(file, data[:777], place))
    pack_checkpoint(model, tmp_path / "o", 2)
    assert contents(tmp_path / "o") == contents(packed)


def test_data_is_on_the_disk_before_the_journal_says_so(model, tmp_path, monkeypatch):
    """Each write of a tensor is followed by a sync of its file, then by a record of its name."""
    unsynced, tensors, real = {}, {}, (os.pwrite, os.fsync, Job.record)

    def pwrite(file, data, place):
        unsynced[threading.get_ident()] = place
        return real[0](file, data, place)

    def fsync(file):
        real[1](file)
        place = unsynced.pop(threading.get_ident(), None)
        if place is not None:
            tensors[os.readlink(f"/proc/self/fd/{file}"), place] = True

    def record(job, name, record):
        noted.update(dict.fromkeys(record["checksums"], len(tensors)))
        real[2](job, name, record)

    noted = {}
    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Job, "record", record)
    pack_checkpoint(model, tmp_path / "o", 2)
    assert unsynced == {}
    for count, (name, synced) in enumerate(noted.items(), 1):
        assert synced >= count, name
    assert len(noted) == len(everything(tmp_path / "o"))


def test_all_is_on_the_disk_before_it_has_its_name(packed, tmp_path, monkeypatch):
    log, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (
        log.append(os.readlink(f"/proc/self/fd/{file}").removeprefix(f"{tmp_path}/")), real(file)))
    with Job(tmp_path / "o", {}) as job:
        (job.partial / "config.json").write_text("{}")
        (job.partial / "LICENSE").write_text("as is")
        log.clear()
        job.finish()
    assert sorted(log[:2]) == ["o.partial/LICENSE", "o.partial/config.json"]
    assert log[2:] == ["o.partial", str(tmp_path)]


def test_journal_has_the_checksums(model, packed, tmp_path):
    kill(model, tmp_path / "o", 2, "report", 12)
    lines = (tmp_path / "o.partial" / ".journal.jsonl").read_bytes().splitlines()[1:]
    noted = {name: crc for line in lines for name, crc in json.loads(line)[1]["checksums"].items()}
    assert noted == {name: zlib.crc32(b"".join(tensor.pieces()))
                     for name, tensor in everything(packed)}
