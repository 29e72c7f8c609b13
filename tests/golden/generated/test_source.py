from math import prod

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.generated.source import GeneratedSource
from tritstream.golden.model_sizes import QWEN25, Sizes

from support.forked import run_forked
from support.golden_helpers import contents, message

#: Parameters of the published models.
PARAMETERS = {
    "0.5B": 494_032_768, "1.5B": 1_543_714_304, "3B": 3_085_938_688, "7B": 7_615_616_512,
    "14B": 14_770_033_664, "32B": 32_763_876_352, "72B": 72_706_203_648,
}


@pytest.fixture
def tiny(monkeypatch):
    """A size of its own, and that of the small models, whose head is the embedding."""
    sizes = Sizes(3, 48, 80, 4, 2, 16, 200)
    monkeypatch.setitem(QWEN25, "tiny", sizes)
    monkeypatch.setitem(QWEN25, "3B", sizes)


def values(name="a.weight", shape=(300, 500), seed=0, dtype="F32", **how):
    return GeneratedTensor(name, dtype, shape, seed, **how).read().astype(np.float32)


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameters_of_the_published_models(name, count):
    source = GeneratedSource(name)
    assert sum(prod(tensor.shape) for tensor in source.tensors.values()) == count
    assert len(source.matrices()) == 7 * QWEN25[name].layers
    for shard in source.shards.values():
        assert sum(tensor.size for tensor in shard.tensors.values()) <= 5e9


def test_one_layer_of_32b():
    matrices = GeneratedSource("32B", layers=1).matrices()
    assert sum(prod(tensor.shape) for tensor in matrices.values()) == 487_587_840
    assert matrices["model.layers.0.mlp.down_proj"].shape == (5120, 27648)


@pytest.mark.parametrize(("name", "tied"), [("tiny", False), ("3B", True)])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_stock_transformers_loads_it(tiny, tmp_path, name, tied, dtype):
    convert(GeneratedSource(name, dtype=dtype), tmp_path / "m")
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(info.values()), info
    assert model.dtype == getattr(torch, DTYPES[dtype].name)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    source = DirectorySource(tmp_path / "m")
    assert ("lm_head.weight" in source.tensors) != tied
    assert {tensor.dtype for tensor in source.tensors.values()} == {dtype}
    assert model(torch.arange(50)[None]).logits.isfinite().all()


def test_a_layer_does_not_depend_on_the_others(tiny):
    short, long = GeneratedSource("tiny", layers=1), GeneratedSource("tiny", vocabulary=64)
    assert len(long.matrices()) == 3 * len(short.matrices())
    for name in short.matrices():
        assert (short.read(f"{name}.weight") == long.read(f"{name}.weight")).all()


def test_values_follow_from_name_and_seed():
    assert (values() == values()).all()
    assert np.mean(values() == values(seed=1)) < 0.01
    assert np.mean(values() == values(name="b.weight")) < 0.01


def test_values_do_not_depend_on_how_they_are_read(monkeypatch):
    tensor = GeneratedTensor("a.weight", "BF16", (300, 500), 0)
    whole = tensor.read()
    assert b"".join(tensor.pieces()) == whole.tobytes()
    assert tensor.size == whole.nbytes
    monkeypatch.setattr("tritstream.golden.row_chunks._ELEMENTS", 2000)
    assert tensor.read().tobytes() == whole.tobytes()


def test_weights_are_as_those_of_trained_layers():
    weights = values(shape=(1000, 2000)).astype(np.float64)
    size = weights.std()
    assert 0.02 < size < 0.03 and abs(weights.mean()) < 1e-4
    assert 5 < np.mean((weights / size) ** 4) < 10
    columns = weights.std(axis=0)
    outliers = columns > 2 * np.median(columns)
    assert 0 < outliers.sum() < 20
    rest = np.log(columns[~outliers])
    assert 0.15 < rest.std() < 0.25 and 0.15 < np.log(weights.std(axis=1)).std() < 0.25
    inner = (weights / weights.std(axis=1, keepdims=True) / columns).ravel()
    assert 3.5 < np.mean(inner ** 4) / np.mean(inner ** 2) ** 2 < 4.5


def test_norms_are_near_one_and_biases_around_zero(tiny):
    source = GeneratedSource("tiny", dtype="F32")
    norm = source.read("model.layers.1.input_layernorm.weight")
    assert abs(norm.mean() - 1) < 0.1 and 0.05 < norm.std() < 0.2
    bias = source.read("model.layers.1.self_attn.q_proj.bias")
    assert abs(bias.mean()) < 0.2 and 0.1 < bias.std() < 0.5
    assert not any(".o_proj.bias" in name or ("mlp" in name and "bias" in name)
                   for name in source.tensors)


def test_special_tokens_are_those_of_the_vocabulary(tiny):
    assert "eos_token_id" not in GeneratedSource("tiny").config
    assert GeneratedSource("7B", vocabulary=151_644).config["bos_token_id"] == 151_643
    assert "eos_token_id" not in GeneratedSource("7B", vocabulary=151_644).config
    assert GeneratedSource("7B").config["eos_token_id"] == 151_645


def test_several_files_with_an_index(tiny, tmp_path):
    source = GeneratedSource("tiny", shard_size=40_000)
    convert(source, tmp_path / "m")
    assert len(source.shards) > 2
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(info.values()), info


class Killed(BaseException):
    pass


def test_resumes_after_a_kill_only_with_the_same_seed(tiny, tmp_path):
    def stop(name):
        if "layers.1" in name:
            raise Killed

    with pytest.raises(Killed):
        convert(GeneratedSource("tiny"), tmp_path / "m", stop)
    with pytest.raises(CheckpointError, match="left by another job; remove it, or force"):
        convert(GeneratedSource("tiny", seed=1), tmp_path / "m")
    convert(GeneratedSource("tiny"), tmp_path / "m")
    convert(GeneratedSource("tiny"), tmp_path / "n")
    assert contents(tmp_path / "m") == contents(tmp_path / "n")


@pytest.mark.parametrize(("how", "fault"), [
    ({"name": "8B"}, "size must be one of 0.5B, 1.5B, 3B, 7B, 14B, 32B, 72B, not 8B"),
    ({"layers": 0}, "layers must be at least 1, not 0"),
    ({"vocabulary": -1}, "rows of the vocabulary must be at least 1, not -1"),
])
def test_sizes_that_there_are_not(how, fault):
    with pytest.raises(ValueError, match=message(fault)):
        GeneratedSource(**{"name": "7B", **how})


MEASURE = """
import sys, tracemalloc
from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.generated.source import GeneratedSource
GeneratedTensor("warm.weight", "BF16", (2, 2), 0).read()
tracemalloc.start()
convert(GeneratedSource("0.5B", layers=1, vocabulary=16), sys.argv[1])
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_is_that_of_a_few_rows(tmp_path):
    finished = run_forked(MEASURE, tmp_path / "m")
    assert finished.returncode == 0, finished.stderr
    # A matrix of 4864 x 896 has 8.7 MB; its chunk has half a MB, in float32 twice that.
    assert int(finished.stdout) < 5_000_000
