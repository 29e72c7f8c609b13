import json

import numpy as np
import pytest

from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.sharding import shards_of
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.verify import verify

from support.forked import run_forked
from support.gguf_helpers import write_random
from support.golden_helpers import contents


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def test_converted_and_packed_are_those_of_the_converted(file, tmp_path):
    write_random(file, "llama", "Q4_1")
    convert(open_source(file), tmp_path / "hf")
    pack_checkpoint(file, tmp_path / "a", 2)
    pack_checkpoint(tmp_path / "hf", tmp_path / "b", 2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert verify(tmp_path / "a", file) == []
    write_random(file, "llama", "Q4_1", seed=1)
    assert {finding.tensor for finding in verify(tmp_path / "a", file)} > {
        "model.layers.0.self_attn.q_proj", "model.norm.weight"}


def test_where_a_model_comes_from_is_kept(file, tmp_path):
    def change(fields, _):
        fields["general.license"] = "apache-2.0"

    write_random(file, "llama", change=change)
    convert(open_source(file), tmp_path / "hf")
    shard = DirectorySource(tmp_path / "hf").shards["model.safetensors"]
    assert shard.metadata == {"format": "pt", "general.architecture": "llama",
                              "general.license": "apache-2.0"}


class Killed(BaseException):
    pass


def test_conversion_resumes_after_a_kill(file, tmp_path):
    write_random(file, "llama")
    names, done = list(open_source(file).tensors), []

    def stop(name):
        done.append(name)
        if len(done) == 5:
            raise Killed

    with pytest.raises(Killed):
        convert(open_source(file), tmp_path / "a", stop)
    journal = (tmp_path / "a.partial" / ".journal.jsonl").read_text().splitlines()
    assert [json.loads(line)[0] for line in journal[1:]] == names[:5]
    convert(open_source(file), tmp_path / "a")
    convert(open_source(file), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_another_file_of_that_name_is_another_job(file, tmp_path):
    def stop(_):
        raise Killed

    write_random(file, "llama")
    with pytest.raises(Killed):
        convert(open_source(file), tmp_path / "a", stop)
    write_random(file, "llama", seed=1)
    with pytest.raises(CheckpointError, match="left by another job; remove it, or force"):
        convert(open_source(file), tmp_path / "a")


def test_large_models_get_several_files(file, tmp_path, monkeypatch):
    tensors = write_random(file, "qwen2")
    monkeypatch.setattr("tritstream.golden.gguf.source.shards_of",
                        lambda *args: shards_of(*args, 30_000))
    convert(open_source(file), tmp_path / "hf")
    pack_checkpoint(file, tmp_path / "packed", 1)
    source = DirectorySource(tmp_path / "hf")
    assert len(source.shards) > 3
    assert next(iter(source.shards)) == f"model-00001-of-{len(source.shards):05}.safetensors"
    assert all((source.read(name) == values).all() for name, values in tensors.items())
    for shard in source.shards.values():
        sizes = [tensor.size for tensor in shard.tensors.values()]
        assert sum(sizes) <= 30_000 or len(sizes) == 1
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(values.nbytes for values in tensors.values())
    assert verify(tmp_path / "packed", tmp_path / "hf") == []


MEASURE = """
import sys, tracemalloc
import tritstream.golden.gguf.source
from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.open_source import open_source
tracemalloc.start()
convert(open_source(sys.argv[1]), sys.argv[2])
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_is_that_of_a_few_rows(file, tmp_path):
    rows = 100_000

    def change(fields, tensors):
        fields["llama.vocab_size"] = rows
        tensors["token_embd.weight"] = np.zeros((rows, 64), np.float32), tensors[
            "blk.0.ffn_down.weight"][1]

    write_random(file, "llama", "Q8_0", change=change)
    finished = run_forked(MEASURE, file, tmp_path / "hf")
    assert finished.returncode == 0, finished.stderr
    # The table is 26 MB in float32, a chunk of it 1 MB.
    assert int(finished.stdout) < 8_000_000
