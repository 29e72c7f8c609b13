"""Outputs that may be replaced: files of ours only, whichever way they are in the way."""

import json
import os
import shutil

import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.jobs.replacing import (
    MANIFEST,
    check_replaceable,
    check_same_kind,
    check_work_folder,
)
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.quantizers.moments import fault_of_moments

from support.golden_helpers import contents, make_checkpoint, message
from support.job_helpers import kill


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    make_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def packed(model):
    pack_checkpoint(model, model.parent / "packed", 2)
    return model.parent / "packed"


@pytest.fixture(params=["pack", "export", "convert"])
def job(request, model, packed):
    """Function of a directory and ``force`` that writes the directory."""
    return {"pack": lambda out, force=True: pack_checkpoint(model, out, 2, force=force),
            "export": lambda out, force=True: export(packed, out, force=force),
            "convert": lambda out, force=True: convert(open_source(model), out, force=force),
            }[request.param]


def refusal(directory, fault):
    return message(f"{directory}: {fault}, so nothing is replaced; choose another directory, or "
                   "remove this one yourself")


def refused(job, out, fault, directory=None):
    """A forced run says so and changes nothing."""
    before = everything(out.parent)
    with pytest.raises(CheckpointError, match=refusal(directory or out, fault)):
        job(out)
    assert everything(out.parent) == before


def everything(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*")
            if path.is_file() and path.name != ".journal.jsonl"}


def test_output_of_ours_is_replaced(job, tmp_path):
    job(tmp_path / "o", False)
    before = contents(tmp_path / "o")
    job(tmp_path / "o")
    assert contents(tmp_path / "o") == before
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


@pytest.mark.parametrize("name", ["thesis.docx", "aaa.txt", "model-00001-of-00001.safetensors",
                                  ".git", "NOTICE", "zzz.bin"])
def test_foreign_file_stops_it(job, tmp_path, name):
    out = tmp_path / "o"
    job(out)
    (out / name).write_bytes(b"years of work")
    refused(job, out, f"{name} was not written by tritstream")


def test_foreign_directory_stops_it(job, tmp_path):
    out = tmp_path / "o"
    job(out)
    (out / "notes").mkdir()
    (out / "notes" / "thesis.docx").write_bytes(b"years of work")
    refused(job, out, "notes was not written by tritstream")


@pytest.mark.parametrize("name", ["config.json", "LICENSE", "tokenizer.json"])
def test_changed_file_stops_it(job, tmp_path, name):
    out = tmp_path / "o"
    job(out)
    (out / name).write_bytes((out / name).read_bytes() + b" ")
    refused(job, out, f"{name} was changed since it was written")


def test_weights_that_another_program_saved_stop_it(job, tmp_path):
    out = tmp_path / "o"
    job(out)
    weights, = out.glob("*.safetensors")
    save_file(load_file(weights), weights, {"format": "pt", "epoch": "7"})
    refused(job, out, f"{weights.name} was changed since it was written")


@pytest.mark.parametrize("config", ["{}", '{"quantization_config": {"quant_method": "gptq"}}',
                                    '{"quantization_config": {"quant_method": "tritstream"}}'])
def test_configuration_alone_is_no_mark_of_ours(job, tmp_path, config):
    out = tmp_path / "o"
    out.mkdir()
    (out / "config.json").write_text(config)
    (out / "thesis.docx").write_bytes(b"years of work")
    first = "thesis.docx" if '"tritstream"' in config else "config.json"
    refused(job, out, f"{first} was not written by tritstream")


def test_model_that_others_wrote_stops_it(job, tmp_path):
    make_checkpoint(tmp_path / "o", seed=1)
    refused(job, tmp_path / "o", "LICENSE was not written by tritstream")


def test_packed_checkpoint_without_a_manifest_is_ours(job, packed, tmp_path):
    out = tmp_path / "o"
    shutil.copytree(packed, out)
    (out / MANIFEST).unlink()
    (out / "thesis.docx").write_bytes(b"years of work")
    refused(job, out, "thesis.docx was not written by tritstream")
    (out / "thesis.docx").unlink()
    job(out)
    assert (out / MANIFEST).is_file()


@pytest.mark.parametrize("text", ["", "[]", '{"files": 1}', '{"files": {}}', '{"files": {"a": '])
def test_damaged_manifest_lists_nothing(job, tmp_path, text):
    out = tmp_path / "o"
    job(out)
    (out / MANIFEST).write_text(text)
    refused(job, out, f"{MANIFEST} is damaged")


def test_links_stop_it(job, tmp_path):
    out, other = tmp_path / "o", tmp_path / "other"
    job(other)
    out.symlink_to(other)
    refused(job, out, "is not a directory that tritstream wrote")
    out.unlink()
    job(out)
    (out / "LICENSE").unlink()
    (out / "LICENSE").symlink_to(other / "LICENSE")
    refused(job, out, "LICENSE was not written by tritstream")
    out = tmp_path / "dangling"
    out.symlink_to(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="exists already"):
        job(out, False)


def test_file_stops_it(job, tmp_path):
    (tmp_path / "o").write_bytes(b"years of work")
    refused(job, tmp_path / "o", "is not a directory that tritstream wrote")


def test_a_file_that_appears_during_the_job_stops_it(tmp_path):
    with Job(tmp_path / "o", {"job": "x"}) as job:
        (job.partial / "config.json").write_text("{}")
        job.finish()
    with Job(tmp_path / "o", {"job": "y"}, force=True) as job:
        (job.partial / "config.json").write_text("{}")
        (tmp_path / "o" / "thesis.docx").write_bytes(b"years of work")
        with pytest.raises(CheckpointError, match=refusal(
                tmp_path / "o", "thesis.docx was not written by tritstream")):
            job.finish()
    assert (tmp_path / "o" / "thesis.docx").read_bytes() == b"years of work"


@pytest.mark.parametrize("name", ["thesis.docx", "model.safetensors"])
def test_foreign_unfinished_output_stops_it(job, tmp_path, name):
    partial = tmp_path / "o.partial"
    partial.mkdir()
    (partial / name).write_bytes(b"years of work")
    refused(job, tmp_path / "o", f"{name} was not written by tritstream", partial)


def test_foreign_file_in_the_rest_of_another_job_stops_it(model, tmp_path):
    out, partial = tmp_path / "o", tmp_path / "o.partial"
    kill(model, out, 3, "report", 2)
    (partial / "thesis.docx").write_bytes(b"years of work")
    refused(lambda out: pack_checkpoint(model, out, 2, force=True), out,
            "thesis.docx was not written by tritstream", partial)
    (partial / "thesis.docx").unlink()
    pack_checkpoint(model, out, 2, force=True)


def test_foreign_file_that_went_along_stops_the_next(model, tmp_path):
    out, partial = tmp_path / "o", tmp_path / "o.partial"
    kill(model, out, 2, "report", 2)
    (partial / "thesis.docx").write_bytes(b"years of work")
    pack_checkpoint(model, out, 2)
    refused(lambda out: pack_checkpoint(model, out, 2, force=True), out,
            "thesis.docx was not written by tritstream")


def test_foreign_replaced_output_stops_it(job, tmp_path):
    out, replaced = tmp_path / "o", tmp_path / "o.replaced"
    job(out)
    replaced.mkdir()
    (replaced / "thesis.docx").write_bytes(b"years of work")
    refused(job, out, "thesis.docx was not written by tritstream", replaced)
    shutil.rmtree(replaced)
    # The rest of a removal that a kill cut short.
    replaced.mkdir()
    for name in ("config.json", MANIFEST):
        shutil.copy(out / name, replaced / name)
    job(out)
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_files_of_moments_only(tmp_path):
    path = tmp_path / "thesis.docx"
    path.write_bytes(b"years of work")
    with pytest.raises(CheckpointError, match=message(
            f"{path}: is not a file of moments, so it is not replaced; choose another, or remove "
            "it yourself")):
        check_replaceable(path, True, fault_of_moments)
    with pytest.raises(CheckpointError, match="is not a file, so it is not replaced"):
        check_replaceable(tmp_path, True, fault_of_moments)


@pytest.mark.parametrize(("old", "new", "good"), [
    (b"", b"anything", True), (b"years of work", b'{"a": 1}', False),
    (b'{"a": 1, "b": 2}', b'{"a": 2, "c": 1}', True), (b'{"name": "x"}', b'{"a": 2}', False),
    (b"/* Generated by Yosys 1 */", b"/* Generated by Yosys 2 */", True),
    (b"// core\n/* Generated by Amaranth Yosys 1 */", b"/* Generated by Amaranth Yosys 2 */", True),
    (b"// my own core", b"/* Generated by Yosys */", False), (b'{"a": ', b'{"a": 2}', False),
])
def test_files_of_one_kind(tmp_path, old, new, good):
    path = tmp_path / "f"
    path.write_bytes(old)
    if good:
        check_same_kind(path, new)
    else:
        with pytest.raises(CheckpointError, match=message(
                f"{path}: holds something else than this command writes, so it is not replaced; "
                "choose another, or remove it yourself")):
            check_same_kind(path, new)


def test_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is not a file, so it is not replaced"):
        check_same_kind(tmp_path / "pipe", b"{}")


def test_work_folders(tmp_path):
    check_work_folder(tmp_path / "new", ["build.json"])
    check_work_folder(tmp_path, ["build.json"])
    (tmp_path / "top.v").write_bytes(b"years of work")
    with pytest.raises(CheckpointError, match=refusal(
            tmp_path, "top.v is in it, and no build of tritstream")):
        check_work_folder(tmp_path, ["build.json"])
    (tmp_path / "build.json").write_text(json.dumps({}))
    check_work_folder(tmp_path, ["build.json"])
