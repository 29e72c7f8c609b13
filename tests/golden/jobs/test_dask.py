import pickle
import signal

import numpy as np
import pytest
from safetensors.numpy import save_file

from tritstream.golden.errors import CheckpointError
from tritstream.golden.generated.source import GeneratedSource
from tritstream.golden.jobs.dask import on_cluster
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.quantizers.registry import Method

from support.cluster_helpers import PATIENCE, Deadly, dask_cluster
from support.golden_helpers import contents, message, save_halves, write_json

COUNT = 16


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Address and processes of two workers."""
    with dask_cluster(tmp_path_factory.mktemp("cluster"), 2) as (address, processes):
        yield address, processes


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Wait for the scheduler, however busy the machine is."""
    monkeypatch.setattr("tritstream.golden.jobs.cluster_client._PATIENCE", PATIENCE)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two files of matrices, each of several pieces of rows, and kept tensors."""
    path = tmp_path_factory.mktemp("model") / "m"
    path.mkdir()
    rng = np.random.default_rng(0)
    halves = []
    for half in range(2):
        names = [f"layers.{number:02}.weight" for number in range(half, COUNT, 2)]
        halves.append({name: rng.standard_normal((320, 1024)).astype(np.float16)
                       for name in names})
        halves[-1][f"norm.{half}.weight"] = rng.standard_normal(1024).astype(np.float16)
    write_json(path / "config.json", {})
    save_halves(path, halves)
    return path


@pytest.fixture(scope="module")
def packed(model):
    """Output of the same job on one machine."""
    pack_checkpoint(model, model.parent / "packed", 3)
    return contents(model.parent / "packed")


def test_same_bytes_as_one_machine(cluster, model, packed, tmp_path):
    seen = []
    with on_cluster(cluster[0]) as run:
        report = pack_checkpoint(model, tmp_path / "o", 3, run=run, progress=seen.append)
    assert contents(tmp_path / "o") == packed
    assert tuple(seen) == report.tensors


def test_resumes_on_a_cluster_and_on_the_machine_again(cluster, model, packed, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        pack_checkpoint(model, tmp_path / "o", 3, progress=stop_at("layers.04"))
    with on_cluster(cluster[0]) as run, pytest.raises(KeyboardInterrupt):
        pack_checkpoint(model, tmp_path / "o", 3, run=run, progress=stop_at("layers.01"))
    pack_checkpoint(model, tmp_path / "o", 3)
    assert contents(tmp_path / "o") == packed


def stop_at(name):
    def progress(report):
        if report.name == name:
            raise KeyboardInterrupt
    return progress


def test_error_of_a_worker(cluster, tmp_path):
    (tmp_path / "m").mkdir()
    write_json(tmp_path / "m" / "config.json", {})
    weights = np.ones((3, 40), np.float32)
    weights[1, 17] = np.inf
    save_file({"a.weight": weights}, tmp_path / "m" / "model.safetensors")
    with on_cluster(cluster[0]) as run, pytest.raises(ValueError, match=message(
            "a.weight must be finite, not inf at row 1, column 17")):
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, run=run)
    assert [path.name for path in tmp_path.iterdir() if path.name != "m"] == ["o.partial"]


def test_a_scheduler_that_does_not_answer(monkeypatch):
    monkeypatch.setattr("tritstream.golden.jobs.cluster_client._PATIENCE", 0.5)
    with pytest.raises(CheckpointError, match=r"^tcp://127\.0\.0\.1:9: no Dask scheduler answers "
                                              r"\(.*\); start one with dask scheduler, and "
                                              r"workers$"), on_cluster("tcp://127.0.0.1:9"):
        pass


def test_tensor_that_cannot_be_sent(cluster, tmp_path, monkeypatch):
    def refuse(step):
        raise TypeError("cannot pickle")

    monkeypatch.setattr(pickle, "dumps", refuse)
    source = GeneratedSource("0.5B", layers=1, vocabulary=16)
    monkeypatch.setattr("tritstream.golden.packed.pack.open_source",
                        lambda _, tokenizer: source)
    with on_cluster(cluster[0]) as run, pytest.raises(CheckpointError, match=message(
            "model.embed_tokens.weight: cannot be sent to a cluster; convert the model to a "
            "Hugging Face directory first")):
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, run=run)


def test_worker_that_sees_other_files(cluster, model, tmp_path, monkeypatch):
    monkeypatch.setattr("tritstream.golden.jobs.dask._first_line", lambda path: b"another\n")
    with on_cluster(cluster[0]) as run, pytest.raises(CheckpointError, match=(
            rf"^{tmp_path}/o\.partial: is not that of this job on \S+; all machines of a cluster "
            "must have the same files under the same paths$")):
        pack_checkpoint(model, tmp_path / "o", 2, run=run)


def test_worker_of_another_version(cluster, model, tmp_path, monkeypatch):
    monkeypatch.setattr("tritstream.golden.jobs.dask._code", lambda: "another")
    with on_cluster(cluster[0]) as run, pytest.raises(CheckpointError, match=(
            r"^\S+: has another version of tritstream; install the same on all machines of the "
            "cluster$")):
        pack_checkpoint(model, tmp_path / "o", 2, run=run)


def test_worker_killed_in_the_midst_of_a_matrix(cluster, model, packed, tmp_path):
    address, processes = cluster
    deadly = Method("search", Deadly(tmp_path, "layers.12.weight"))
    with on_cluster(address) as run:
        pack_checkpoint(model, tmp_path / "o", 3, run=run, method=deadly)
    assert (tmp_path / "died-0").exists()
    assert sorted(process.poll() or 0 for process in processes) == [-signal.SIGKILL, 0]
    assert contents(tmp_path / "o") == packed


@pytest.mark.long
def test_matrix_that_kills_every_worker(model, packed, tmp_path):
    deadly = Method("search", Deadly(tmp_path, "layers.12.weight", times=4))
    with (dask_cluster(tmp_path, 5) as (address, _), on_cluster(address) as run,
          pytest.raises(CheckpointError, match=message(
              "layers.12.weight: every worker that was given it died; give them more memory and "
              "run the same command again"))):
        pack_checkpoint(model, tmp_path / "o", 3, run=run, method=deadly)
    pack_checkpoint(model, tmp_path / "o", 3)
    assert contents(tmp_path / "o") == packed
