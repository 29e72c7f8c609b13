import io
import shutil
import socket
import sys

import pytest
from huggingface_hub import constants

from tritstream.golden.checkpoints import hub as tested
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.hub import local_model, snapshot_name
from tritstream.golden.errors import CheckpointError
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify

from support.golden_helpers import make_checkpoint, message, write_json
from support.hub import fake_hub

NAME = "Owner/Model-0.5B"
SMALL = {"LICENSE", "chat_template.jinja", "config.json", "generation_config.json",
         "tokenizer.json"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that huggingface_hub asks, an empty cache, and an empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with fake_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                            server.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        tested._download.cache_clear()
        yield server
        tested._download.cache_clear()


@pytest.fixture
def model(hub, tmp_path):
    """Put a model in shards, and files that are not needed, on the Hub; return its directory."""
    make_checkpoint(tmp_path / "model", sharded=True)
    for name in ("pytorch_model.bin", "consolidated.safetensors", "model.fp16.safetensors",
                 "modeling.py", "onnx/model.onnx", "original/model.safetensors"):
        (tmp_path / "model" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_bytes(b"not needed")
    hub.add(NAME, tmp_path / "model")
    return tmp_path / "model"


def again():
    """Forget what this process has found, as another process would."""
    tested._download.cache_clear()


def refuses(given, fault):
    again()
    with pytest.raises(CheckpointError, match=message(f"{given}: no such file or directory, and "
                                                      f"{fault}")):
        local_model(given)


def test_only_needed_files_are_downloaded_once(hub, model):
    path = local_model(NAME)
    shards = {f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    needed = SMALL | shards | {"model.safetensors.index.json"}
    assert {file.name for file in path.iterdir()} == set(hub.sent) == needed
    for name in needed:
        assert (path / name).read_bytes() == (model / name).read_bytes()
    assert local_model(f"https://huggingface.co/{NAME}") == local_model(NAME) == path
    again()
    assert local_model(NAME) == path
    assert len(hub.sent) == len(needed)


def test_one_file_of_weights(hub, tmp_path):
    make_checkpoint(tmp_path / "model")
    for name in ("consolidated.safetensors", "model.fp16.safetensors"):
        (tmp_path / "model" / name).write_bytes(b"not needed")
    hub.add(NAME, tmp_path / "model")
    path = local_model(NAME)
    assert {file.name for file in path.iterdir()} == SMALL | {"model.safetensors"}


def test_readers_take_names(hub, model, tmp_path):
    assert open_source(NAME).tensors.keys() == DirectorySource(model).tensors.keys()
    pack_checkpoint(NAME, "packed", 2)
    hub.add("Owner/packed", tmp_path / "here" / "packed")
    packed = PackedCheckpoint("Owner/packed@main")
    assert packed.matrices.keys() == PackedCheckpoint("packed").matrices.keys()
    assert verify("Owner/packed", NAME) == []


def test_a_path_that_exists_wins(hub, model, tmp_path):
    shutil.copytree(model, NAME)
    assert open_source(NAME).path.absolute() == tmp_path / "here" / NAME
    (tmp_path / "here" / "link").mkdir()
    (tmp_path / "here" / "link" / "gone").symlink_to("nothing")
    for given in ("link/gone", tmp_path / "none", "none", "./a/b", "../a/b", "a/b/c"):
        assert local_model(given) == tmp_path.__class__(given)
    assert hub.requests == []


def test_an_unfinished_output_is_no_name(hub, tmp_path):
    (tmp_path / "here" / "out" / "d3.partial").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=message(
            "out/d3: not written to its end (out/d3.partial); run the command that writes it "
            "again")):
        PackedCheckpoint("out/d3")
    assert hub.requests == []


def test_revisions(hub, model, tmp_path):
    make_checkpoint(tmp_path / "other", seed=1)
    commit = hub.add(NAME, tmp_path / "other", "v1.0")
    assert snapshot_name(local_model(f"{NAME}@v1.0")) == (NAME, commit)
    assert local_model(f"{NAME}@{commit}") == local_model(f"{NAME}@v1.0") != local_model(NAME)
    refuses(f"{NAME}@v2", f"{NAME} has no such revision on the Hub; give a branch, a tag or a "
                          "commit of it")


def test_snapshot_names(tmp_path):
    assert snapshot_name(tmp_path) is None
    assert snapshot_name(tmp_path / "snapshots" / "1a2b") is None
    place = tmp_path / "models--org--a--name" / "snapshots" / "1a2b"
    assert snapshot_name(place) == ("org/a--name", "1a2b")


def test_a_gguf_file(hub, model):
    (model / "model-q4_0.gguf").write_bytes(b"GGUF of some kind")
    assert local_model(f"{NAME}/model-q4_0.gguf").read_bytes() == b"GGUF of some kind"
    assert local_model(f"{NAME}@main/model-q4_0.gguf").is_file()
    assert hub.sent == ["model-q4_0.gguf"]
    refuses(f"{NAME}/other.gguf", f"{NAME} has no such file on the Hub")


def test_a_model_without_safetensors(hub, model):
    for file in model.glob("*.safetensors*"):
        file.unlink()
    refuses(NAME, f"{NAME} has no weights as safetensors on the Hub; name a GGUF file of it as "
                  f"{NAME}/FILE.gguf, or give another model")


@pytest.mark.parametrize("weight_map", [[], {"a": 1}, {"a": "../x"}, {"a": "mod*"}])
def test_a_damaged_index(hub, model, weight_map):
    index = model / "model.safetensors.index.json"
    write_json(index, {"weight_map": weight_map})
    with pytest.raises(CheckpointError):
        open_source(NAME)


def test_neither_a_path_nor_a_model(hub):
    refuses("nobody/none", f"no public model of that name on the Hub ({hub.endpoint}); check the "
                           "name, or run `hf auth login` if it is private")
    refuses("build/a--b", "not the name of a model on the Hub; check it")


def test_gated_models(hub, model, monkeypatch):
    hub.gated[NAME] = "secret"
    asked = (f"the Hub lets only approved accounts read {NAME}; ask for access on "
             f"{hub.endpoint}/{NAME}, and run `hf auth login`")
    refuses(NAME, asked)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    refuses(NAME, asked)
    monkeypatch.setenv("HF_TOKEN", "secret")
    again()
    assert open_source(NAME).tensors


def test_offline(hub, model, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = ("the cache of the Hub does not hold all its files, and HF_HUB_OFFLINE forbids to "
               "download them; unset it for a download")
    refuses(NAME, offline)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = local_model(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again()
    assert local_model(NAME) == path
    for name in ("tokenizer.json", "model-00002-of-00002.safetensors"):
        (path / name).rename(path / "away")
        refuses(NAME, offline)
        (path / "away").rename(path / name)


def test_without_network(hub, model, monkeypatch):
    path = local_model(NAME)
    with socket.socket() as unused:         # the port is taken, and no server listens
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        again()
        assert local_model(NAME) == path
        refuses("owner/name", "the cache of the Hub does not hold all its files, and the Hub "
                              f"cannot be reached at {endpoint} ([Errno 111] Connection refused); "
                              "connect this machine, or download the model elsewhere and give its "
                              "directory")


def test_an_answer_that_is_an_error(hub, model):
    hub.status = 503
    refuses(NAME, f"the Hub at {hub.endpoint} answers with HTTP error 503; try again later")
    hub.status = 403
    refuses(NAME, f"the Hub at {hub.endpoint} answers with HTTP error 403; run `hf auth login`")


def test_a_broken_connection_is_resumed(hub, model, monkeypatch):
    shard = "model-00001-of-00002.safetensors"
    hub.cut[shard] = 1000
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    path = local_model(NAME)
    assert (path / shard).read_bytes() == (model / shard).read_bytes()
    asked = [part for method, name, part in hub.requests
             if method == "GET" and name.endswith(shard)]
    assert asked == [None, "bytes=1000-"]


def test_an_interrupted_download_continues(hub, model, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    shard = "model-00001-of-00002.safetensors"
    hub.cut[shard] = 1000
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            local_model(NAME)
    hub.requests.clear()
    path = local_model(NAME)
    assert set(hub.sent) <= {shard, "model-00002-of-00002.safetensors"}
    assert (path / shard).read_bytes() == (model / shard).read_bytes()
    assert not [*path.parents[1].rglob("*.incomplete")]


def test_a_connection_that_stays_broken(hub, model, monkeypatch):
    class Broken(dict):
        def pop(self, name, size):
            return 1000 if name == "model-00001-of-00002.safetensors" else size

    hub.cut = Broken()
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    refuses(NAME, f"the download from {hub.endpoint} stopped (peer closed connection without "
                  "sending complete message body (received 1000 bytes, expected 13032)); run the "
                  "same command again, which downloads the missing files")


def test_a_log_has_no_bars(hub, model, capfd):
    local_model(NAME)
    assert capfd.readouterr() == ("", "")


def test_without_the_package(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refuses(NAME, "models of the Hub need the package huggingface_hub; run pip install "
                  "'tritstream[torch]'")


def test_a_failure_says_one_thing(hub, model, capfd):
    for file in model.glob("*.safetensors*"):
        file.unlink()
    with pytest.raises(CheckpointError):
        local_model(NAME)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_has_a_bar(hub, model, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    local_model(NAME)
    assert f"\rdownloading {NAME}: " in sys.stderr.getvalue()
    assert "Fetching" not in sys.stderr.getvalue() and "\n" not in sys.stderr.getvalue()
