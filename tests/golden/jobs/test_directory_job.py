"""Whose an output is, and what it may replace."""

import os

import pytest

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint

from support.golden_helpers import contents, make_checkpoint, message
from support.job_helpers import kill, packed_of, sharded_model, spy_on_writes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return sharded_model(tmp_path_factory)


@pytest.fixture(scope="module")
def packed(model):
    return packed_of(model)


@pytest.fixture
def written(monkeypatch):
    return spy_on_writes(monkeypatch)


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


def test_forced_run_of_the_same_job_resumes(model, tmp_path, written):
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
    with Job(tmp_path / "o", {"job": "x"}), pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o.partial'}: another process is writing it; wait for it")):
        Job(tmp_path / "o", {"job": "x"})
    with Job(tmp_path / "o", {"job": "x"}) as job:
        assert job.done == {}
