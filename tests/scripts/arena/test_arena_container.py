"""Matrices on their way to llama.cpp's quantizer and back, with the gguf package in its place."""

from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants

from tritstream.golden.open_source import open_source
from tritstream.scripts.reports.arena import contestants, llama_cpp
from tritstream.scripts.reports.arena.container import (
    read_quantized,
    ready_imatrix,
    write_container,
)
from tritstream.scripts.reports.arena.contestants import Place
from tritstream.scripts.reports.arena.imatrix import mean_squares

from support.cli_helpers import MODEL

MODULE, NAME = "model.layers.1.self_attn.k_proj", "blk.1.attn_k.weight"


@pytest.fixture(scope="module")
def base():
    return open_source(MODEL)


def quantize(source, output, kind):
    """Quantize a container to one type, with the gguf package."""
    kind, writer = GGMLQuantizationType[kind], GGUFWriter(output, "qwen2")
    for tensor in GGUFReader(source).tensors:
        values = quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("folded", [False, True])
def test_a_container_has_the_matrices_of_the_base(base, tmp_path, folded):
    write_container(base, tmp_path / "c.gguf", folded=folded)
    reader = GGUFReader(tmp_path / "c.gguf")
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert len(found) == len(base.matrices()) == 28
    assert reader.fields["qwen2.attention.head_count_kv"].contents() == 2
    values = quants.dequantize(found[NAME].data, found[NAME].tensor_type)
    assert values.shape == ((32, 256) if folded else (64, 128))
    np.testing.assert_array_equal(values.reshape(64, 128),
                                  base.read(f"{MODULE}.weight").astype(np.float32))


@pytest.mark.parametrize("folded", [False, True])
def test_matrices_come_back_with_bits_and_types(base, tmp_path, folded):
    write_container(base, tmp_path / "c.gguf", folded=folded)
    quantize(tmp_path / "c.gguf", tmp_path / "q.gguf", "Q5_0")
    found = read_quantized(base, tmp_path / "q.gguf")
    assert found.stored_bits == 5.5 and found.types == {"Q5_0": 1.0}
    weights = base.read(f"{MODULE}.weight").astype(np.float32)
    expected = quants.dequantize(quants.quantize(weights, GGMLQuantizationType.Q5_0),
                                 GGMLQuantizationType.Q5_0)
    np.testing.assert_array_equal(found.source.read(f"{MODULE}.weight"), expected)
    for name in ("model.embed_tokens.weight", "model.norm.weight", f"{MODULE}.bias"):
        assert found.source.tensors[name] is base.tensors[name]


def test_the_imatrix_is_that_of_joined_rows(base):
    columns = {module: np.arange(tensor.shape[1], dtype=np.float32)
               for module, tensor in base.matrices().items()}
    plain, joined = (ready_imatrix(base, columns, folded=folded) for folded in (False, True))
    np.testing.assert_array_equal(plain[NAME], np.arange(128))
    np.testing.assert_array_equal(joined[NAME], [*range(128), *range(128)])


def test_the_imatrix_is_the_mean_square_of_inputs(base, tmp_path):
    import torch

    from tritstream.host.model.load import load_model
    from tritstream.scripts.weights.token_windows import text_windows

    (tmp_path / "text.txt").write_text("It was a truth, and she knew that it was. " * 90)
    found = mean_squares(base, tmp_path / "text.txt", 512)
    window = text_windows(MODEL, tmp_path / "text.txt")[0]
    states = load_model(MODEL)(window[None], output_hidden_states=True).hidden_states
    layer = load_model(MODEL).model.layers[2]
    inputs = layer.input_layernorm(states[2])[0].detach()
    assert inputs.shape == (512, 128)
    for module in ("q_proj", "v_proj"):
        np.testing.assert_allclose(found[f"model.layers.2.self_attn.{module}"],
                                   torch.square(inputs).mean(0).numpy(), rtol=1e-4)
    assert found.keys() == base.matrices().keys()


def test_another_architecture_is_refused(tmp_path):
    base = SimpleNamespace(path=tmp_path, config={"model_type": "bitnet"})
    with pytest.raises(ValueError, match=r": the arena knows no names of llama.cpp for bitnet, "
                                         r"only for llama, qwen2 and qwen3$"):
        write_container(base, tmp_path / "c.gguf", folded=False)


def test_a_directory_without_the_library_is_refused(tmp_path):
    said = (r"; get one by `npm pack @node-llama-cpp/linux-x64`, or by a build of llama.cpp, and "
            r"name its directory$")
    with pytest.raises(ValueError, match=f"^{tmp_path}: has no libllama{said}"):
        llama_cpp.LlamaCpp(tmp_path)
    (tmp_path / "libllama.so").write_bytes(b"no library")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/libllama.so: cannot be loaded: .*{said}"):
        llama_cpp.LlamaCpp(tmp_path)


def test_the_quantizer_gets_container_and_imatrix(base, tmp_path, monkeypatch):
    """A contestant of llama.cpp, with a library that notes what it gets."""
    calls = []

    class Library:
        def __init__(self, directory):
            calls.append(directory)

        def quantize(self, source, output, kind, imatrix):
            calls.append((kind, imatrix and {name: len(values) for name, values in
                                             imatrix.items() if name == NAME}))
            quantize(source, output, "Q4_0")

    monkeypatch.setattr(contestants, "LlamaCpp", Library)
    monkeypatch.setattr(contestants, "imatrix_file", lambda *_: {
        module: np.ones(tensor.shape[1], np.float32)
        for module, tensor in base.matrices().items()})
    place = Place(MODEL, tmp_path / "text", 512, tmp_path / "lib", tmp_path)
    for name in ("Q3_K_M", "Q4_K_M-joined-imatrix"):
        made = contestants.CONTESTANTS[name].make(place, tmp_path / name)
        assert made == {"stored_bits": 4.5, "types": {"Q4_0": 1.0}}
        assert open_source(tmp_path / name).tensors[f"{MODULE}.weight"].dtype == "F32"
    assert calls == [tmp_path / "lib", ("Q3_K_M", None), tmp_path / "lib",
                     ("Q4_K_M", {NAME: 256})]
