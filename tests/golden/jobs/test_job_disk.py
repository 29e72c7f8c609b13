"""Disks that are full, limited, slow, or in the way."""

import errno
import json
import os
import shutil
import threading
import zlib
from pathlib import Path

import pytest

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint

from support.forked import run_forked
from support.golden_helpers import contents, make_checkpoint, message
from support.job_helpers import everything, kill, packed_of, sharded_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return sharded_model(tmp_path_factory)


@pytest.fixture(scope="module")
def packed(model):
    return packed_of(model)


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
    (os, "pwrite", "packed-00001-of-00002.safetensors"),
    (os, "ftruncate", "packed-00001-of-00002.safetensors"),
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
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.errors import CheckpointError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    pack_checkpoint(sys.argv[1], sys.argv[2], 2)
except CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "name"), [
    (100, ".journal.jsonl"), (2000, "packed-00001-of-00002.safetensors"),
    (15000, "config.json"), (40000, "tokenizer.json"),
])
def test_limit_of_the_size_of_a_file(tmp_path, limit, name):
    model, out = tmp_path / "m", tmp_path / "d" / "o"
    make_checkpoint(model, sharded=True)
    (model / "config.json").write_text(json.dumps({"words": "x" * 30000}))
    (model / "tokenizer.json").write_text(json.dumps({"words": "x" * 60000}))
    finished = run_forked(LIMITED, model, out, limit)
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


def opened(file):
    """Path of an open file."""
    return str(Path(f"/proc/self/fd/{file}").readlink())


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
            tensors[opened(file), place] = True

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
        log.append(opened(file).removeprefix(f"{tmp_path}/")), real(file)))
    with Job(tmp_path / "o", {}) as job:
        (job.partial / "config.json").write_text("{}")
        (job.partial / "LICENSE").write_text("as is")
        log.clear()
        job.finish()
    assert sorted(log[:3]) == [f"o.partial/{name}" for name in (
        ".tritstream.json", "LICENSE", "config.json")]
    assert log[3:] == ["o.partial", str(tmp_path)]


def test_journal_has_the_checksums(model, packed, tmp_path):
    kill(model, tmp_path / "o", 2, "report", 12)
    lines = (tmp_path / "o.partial" / ".journal.jsonl").read_bytes().splitlines()[1:]
    noted = {name: crc for line in lines for name, crc in json.loads(line)[1]["checksums"].items()}
    assert noted == {name: zlib.crc32(b"".join(tensor.pieces()))
                     for name, tensor in everything(packed)}
