"""Imports that delete the files of their source: what is deleted when, and what is refused."""

import json
import os
import re
import shutil
import signal
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.recover import encode, import_plan
from tritstream.golden.recover.import_checkpoint import import_checkpoint

from support.forked import run_forked
from support.golden_helpers import contents, message
from support.published import write_checkpoint

#: Imports argv[1] into argv[2] and kills itself at a call of argv[3], before or after it.
KILL = """
import os, pathlib, signal, sys
from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.recover.import_checkpoint import import_checkpoint

what, left, after = sys.argv[3], int(sys.argv[4]), sys.argv[5] == "after"

def counted(function, fits):
    def call(*arguments, **options):
        global left
        left -= bool(fits(*arguments))
        last = not left and fits(*arguments)
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

if what == "unlink":
    pathlib.Path.unlink = counted(pathlib.Path.unlink, lambda path, **_: path.parent.name == "m")
elif what == "record":
    Job.record = counted(Job.record, lambda job, name, record: "consumed" in record)
elif what == "compared":
    Job.record = counted(Job.record, lambda job, name, record: name.startswith("compared"))
else:
    out = pathlib.Path(sys.argv[2])
    pathlib.Path.rename = counted(pathlib.Path.rename, lambda path, to: to == out)
import_checkpoint(sys.argv[1], sys.argv[2], consume=True)
"""
SHARDS = 3


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A checkpoint in three files, its import without consuming, and its export."""
    path = tmp_path_factory.mktemp("original")
    write_checkpoint(path / "m", shards=SHARDS, layers=1)
    import_checkpoint(path / "m", path / "o")
    export(path / "o", path / "e")
    return path


@pytest.fixture
def model(original, tmp_path):
    shutil.copytree(original / "m", tmp_path / "m")
    return tmp_path / "m"


def weights(path):
    return sorted(file.name for file in path.glob("*.safetensors"))


def kill(model, out, what, count, when):
    finished = run_forked(KILL, model, out, what, count, when)
    assert finished.returncode == -signal.SIGKILL, finished.stderr


def test_gives_the_same_bytes_and_leaves_no_weights(model, original, tmp_path):
    others = {name: data for name, data in contents(model).items() if "safetensors" not in name}
    report = import_checkpoint(model, tmp_path / "o", consume=True)
    assert contents(tmp_path / "o") == contents(original / "o")
    assert report.source_sha256.keys() == contents(original / "m").keys()
    assert weights(model) == []
    assert contents(model).items() >= others.items()
    assert (model / "model.safetensors.index.json").is_file()
    assert verify(tmp_path / "o", original / "m") == []


def test_recovers_all_matrices_before_the_first_file_goes(model, tmp_path):
    files, seen = weights(model), []
    import_checkpoint(model, tmp_path / "o", consume=True,
                      progress=lambda stage, _: seen.append((stage, weights(model))))
    assert seen[:7] == [("recovering", files)] * 7
    # While the tensors of a file are compared, it is there, and the files before it are not.
    compared = [left for stage, left in seen if stage == "comparing"]
    assert compared == sorted(compared, key=len, reverse=True)
    assert {tuple(left) for left in compared} == {tuple(files[first:]) for first in range(SHARDS)}


def test_a_single_file(original, tmp_path):
    write_checkpoint(tmp_path / "m", layers=1)
    import_checkpoint(tmp_path / "m", tmp_path / "o", consume=True)
    assert weights(tmp_path / "m") == []
    export(tmp_path / "o", tmp_path / "e")
    tensors = load_file(tmp_path / "e" / "model.safetensors")
    assert tensors.keys() == {name for file in (original / "e").glob("*.safetensors")
                              for name in load_file(file)}


@pytest.mark.parametrize("what", ["unlink", "record", "compared"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_resumes_after_a_kill(model, original, tmp_path, what, when, count):
    kill(model, tmp_path / "o", what, count, when)
    gone = count if (what, when) == ("unlink", "after") else count - 1
    assert len(weights(model)) == SHARDS - gone
    report = import_checkpoint(model, tmp_path / "o", consume=True)
    assert contents(tmp_path / "o") == contents(original / "o")
    assert weights(model) == []
    assert len(report.surveys) == 7


@pytest.mark.parametrize("when", ["before", "after"])
def test_resumes_after_a_kill_at_the_last_rename(model, original, tmp_path, when):
    kill(model, tmp_path / "o", "rename", 1, when)
    assert weights(model) == []
    assert (tmp_path / "o").exists() == (when == "after")
    import_checkpoint(model, tmp_path / "o", consume=True)
    assert contents(tmp_path / "o") == contents(original / "o")


def test_resumes_after_a_kill_for_every_file(model, original, tmp_path):
    for _ in range(SHARDS):
        kill(model, tmp_path / "o", "unlink", 1, "after")
    assert weights(model) == []
    import_checkpoint(model, tmp_path / "o", consume=True)
    assert contents(tmp_path / "o") == contents(original / "o")


def test_consumes_from_the_middle_of_an_import_on(model, original, tmp_path):
    """As after an import that found the disk full."""
    class Stop(Exception):
        pass

    def stop(stage, name):
        if stage == "comparing":
            raise Stop

    with pytest.raises(Stop):
        import_checkpoint(model, tmp_path / "o", progress=stop)
    assert len(weights(model)) == SHARDS
    kill(model, tmp_path / "o", "unlink", 2, "after")
    # Without the option, the rest stays.
    import_checkpoint(model, tmp_path / "o")
    assert len(weights(model)) == 1
    assert contents(tmp_path / "o") == contents(original / "o")


def test_a_misfit_is_found_before_a_file_goes(model, original, tmp_path):
    last = model / weights(model)[-1]
    tensors = load_file(last)
    name = next(name for name in tensors if "_proj.weight" in name)
    tensors[name][:] = np.random.default_rng(0).standard_normal(tensors[name].shape)
    save_file(tensors, last, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(last))}: {name} does not fit"):
        import_checkpoint(model, tmp_path / "o", consume=True)
    assert len(weights(model)) == SHARDS
    import_checkpoint(model, tmp_path / "o", consume=True, keep_going=True)
    assert weights(model) == []
    export(tmp_path / "o", tmp_path / "e")
    assert load_file(tmp_path / "e" / last.name)[name].tobytes() == tensors[name].tobytes()


def test_a_file_that_differs_from_what_was_written_stays(model, tmp_path, monkeypatch):
    def flawed(weights, *arguments):
        matrix = encode(weights, *arguments)
        if arguments[-1] == name:
            matrix.q[0, 0] += 1 if matrix.q[0, 0] < 0 else -1
        return matrix

    second = weights(model)[1]
    name = next(name for name in load_file(model / second) if "_proj.weight" in name)
    monkeypatch.setattr(import_plan, "encode", flawed)
    with pytest.raises(CheckpointError, match="1 weights are not those of the source, the first at "
                                              "row 0, column 0; check disk and memory, and run "):
        import_checkpoint(model, tmp_path / "o", consume=True)
    assert weights(model)[0] == second
    monkeypatch.undo()
    import_checkpoint(model, tmp_path / "o", consume=True)
    assert weights(model) == []


@pytest.fixture
def half(model, tmp_path):
    """An import that was killed when it had deleted two of three files."""
    kill(model, tmp_path / "o", "unlink", 2, "after")
    return tmp_path / "o.partial"


@pytest.mark.parametrize("how", [{"depth": 4}, {"depth": 4, "force": True},
                                 {"exclude": ["k_proj"], "force": True}])
def test_other_options_do_not_discard_the_only_copy(model, original, half, tmp_path, how):
    before = contents(half)
    with pytest.raises(CheckpointError, match=message(
            f"{half}: left by another job, and holds the only copy of files that it consumed; run "
            "its command again with the same options, or remove it yourself")):
        import_checkpoint(model, tmp_path / "o", **how)
    assert contents(half) == before
    import_checkpoint(model, tmp_path / "o", consume=True)
    assert contents(tmp_path / "o") == contents(original / "o")


def test_another_source_does_not_discard_the_only_copy(half, tmp_path):
    before = contents(half)
    write_checkpoint(tmp_path / "x", shards=SHARDS, layers=1, seed=1)
    for call in (import_checkpoint, partial(pack_checkpoint, depth=2)):
        with pytest.raises(CheckpointError, match="holds the only copy of files that it consumed"):
            call(tmp_path / "x", tmp_path / "o", force=True)
    assert contents(half) == before


@pytest.mark.parametrize("cut", [0, 1])
def test_a_lost_output_of_a_deleted_file(model, half, tmp_path, cut):
    lost = min(half.glob("packed-*.safetensors"))
    if cut:
        os.truncate(lost, lost.stat().st_size - cut)
    else:
        lost.unlink()
    with pytest.raises(CheckpointError, match=message(
            f"{lost}: missing or cut short, and model-00001-of-00003.safetensors was deleted when "
            "it had been packed; restore one of them")):
        import_checkpoint(model, tmp_path / "o", consume=True)


def test_other_commands_miss_the_deleted_files(model, half):
    with pytest.raises(CheckpointError, match=message(
            f"{model / 'model-00001-of-00003.safetensors'}: missing, but "
            "model.safetensors.index.json names it, and 1 others of 3; download them")):
        import_checkpoint(model, model.parent / "another")


def test_a_file_that_was_put_back_is_not_deleted(original, model, half, tmp_path):
    """It may be another file; only what the journal describes is known to be in the output."""
    back = model / "model-00001-of-00003.safetensors"
    back.write_bytes((original / "m" / back.name).read_bytes())
    with pytest.raises(CheckpointError, match="holds the only copy of files that it consumed"):
        import_checkpoint(model, tmp_path / "o", consume=True)
    assert back.is_file()
    back.unlink()
    import_checkpoint(model, tmp_path / "o", consume=True)


def test_links_are_not_consumed(original, tmp_path):
    (tmp_path / "m").mkdir()
    for file in (original / "m").iterdir():
        (tmp_path / "m" / file.name).symlink_to(file)
    first = tmp_path / "m" / "model-00001-of-00003.safetensors"
    with pytest.raises(CheckpointError, match=message(
            f"{first}: is a link, and to consume it would not free its bytes; give a directory "
            "with the files themselves, or import it without")):
        import_checkpoint(tmp_path / "m", tmp_path / "o", consume=True)
    assert len(weights(tmp_path / "m")) == SHARDS


def test_a_source_that_states_its_trits_is_not_consumed(tmp_path):
    model = tmp_path / "m"
    model.mkdir()
    save_file({"a.weight": np.zeros((4, 32), np.uint8), "a.weight_scale": np.ones(1, np.float32)},
              model / "model.safetensors", {"format": "pt"})
    (model / "config.json").write_text(json.dumps(
        {"quantization_config": {"quant_method": "bitnet"}}))
    with pytest.raises(CheckpointError, match=message(
            f"{model}: its files depend on each other, or are not safetensors, so none can be "
            "consumed; import it without")):
        import_checkpoint(model, tmp_path / "o", consume=True)


def test_a_file_that_changes_meanwhile_stays(model, tmp_path):
    first = model / "model-00001-of-00003.safetensors"

    def touch(stage, name):
        if stage == "comparing":
            os.utime(first, (0, 0))

    with pytest.raises(CheckpointError, match=message(
            f"{first}: has changed while it was imported; remove {tmp_path / 'o.partial'}, and "
            "import it again")):
        import_checkpoint(model, tmp_path / "o", consume=True, progress=touch)
    assert first.is_file()
