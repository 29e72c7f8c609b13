"""Dtypes of checkpoints that are converted, exported and packed: what is chosen, lost and refused.
"""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.cast_tensor import CastTensor
from tritstream.golden.checkpoints.casting import cast, cast_dtypes
from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.matrix import dequantize
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify

from support.gguf_helpers import tiny_qwen2, write_random
from support.golden_helpers import contents, make_checkpoint, message, write_json
from support.model_helpers import MODEL

HALF, BRAIN, SINGLE = np.float16, ml_dtypes.bfloat16, np.float32
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


def written(path, **tensors):
    """A checkpoint of tensors by name."""
    path.mkdir()
    write_json(path / "config.json", {"torch_dtype": "float32"})
    save_file(tensors, path / "model.safetensors")
    return DirectorySource(path)


@pytest.mark.parametrize(("values", "chosen"), [
    ([1.5, -0.25], "F16"), ([2.0**-24, 65504], "F16"), ([1e5, 2.0**100], None),
    ([2.0**100, 1.5], "BF16"), ([2.0**-30, -1.0], "BF16"), ([1 + 2.0**-12, 1], None),
    ([0.1, 0.2], None), ([0.0, -0.0], "F16"), ([np.inf, np.nan], "F16"),
])
def test_float32_becomes_what_is_exact(tmp_path, values, chosen):
    source = written(tmp_path / "m", a=np.array([values], SINGLE), v=np.array(values, SINGLE))
    assert cast_dtypes(source.tensors, "auto") == ({"a": chosen} if chosen else {})


def test_tensors_of_16_bits_are_unchanged(tmp_path):
    source = written(tmp_path / "m", a=np.ones((2, 2), HALF), b=np.ones((2, 2), BRAIN),
                     i=np.ones((2, 2), np.int32), d=np.ones((2, 2), np.float64))
    assert cast_dtypes(source.tensors, "auto") == {}
    assert cast_dtypes(source.tensors, "float16") == {"b": "F16", "d": "F16"}
    assert cast_dtypes(source.tensors, "float32") == {"a": "F32", "b": "F32", "d": "F32"}
    with pytest.raises(ValueError, match=message(
            "dtype must be one of auto, float32, float16, bfloat16, not half")):
        cast_dtypes(source.tensors, "half")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "Q5_0"])
def test_dequantized_blocks_become_float16(tmp_path, kind):
    write_random(tmp_path / "m.gguf", "llama", kind, tied=False)
    source = open_source(tmp_path / "m.gguf")
    lost = convert(cast(source, "auto"), tmp_path / "hf")["model.safetensors"]
    made = load_file(tmp_path / "hf" / "model.safetensors")
    worst = {one.name: one for one in lost}
    assert worst.keys() == {name for name, values in made.items() if values.ndim == 2}
    for name, values in made.items():
        exact = source.read(name)
        assert values.dtype == (HALF if values.ndim == 2 else SINGLE)
        error = np.abs(exact - values.astype(SINGLE)).max()
        assert error == (worst[name].error if name in worst else 0)
        assert error <= 2.0**-11 * np.abs(exact).max()
    assert json.loads((tmp_path / "hf/config.json").read_text())["torch_dtype"] == "float16"


def test_dequantized_blocks_that_float16_cannot_hold(tmp_path):
    def change(_, tensors):
        for name, factor in (("blk.0.ffn_up.weight", 1e6), ("blk.0.ffn_gate.weight", 1e-6)):
            values, kind = tensors[name]
            tensors[name] = values * SINGLE(factor), kind

    # Blocks whose scales are float32, unlike those of GGML's usual types, are not at hand: what is
    # beyond float16 is tried on tensors that say that they are dequantized.
    write_random(tmp_path / "m.gguf", "llama", "F32", change=change)
    source = open_source(tmp_path / "m.gguf")

    class Blocks:
        dequantized = True

        def __init__(self, tensor):
            self._tensor = tensor

        def __getattr__(self, name):
            return getattr(self._tensor, name)

    chosen = cast_dtypes({name: Blocks(tensor) for name, tensor in source.tensors.items()}, "auto")
    assert "model.layers.1.mlp.up_proj.weight" in chosen
    # One value overflows; the error of the other is the error of subnormals.
    assert "model.layers.0.mlp.up_proj.weight" not in chosen
    assert "model.layers.0.mlp.gate_proj.weight" not in chosen


@pytest.mark.parametrize(("dtype", "kind"), [("float32", SINGLE), ("float16", HALF),
                                             ("bfloat16", BRAIN)])
def test_a_dtype_by_name_is_that_of_all(tmp_path, dtype, kind):
    write_random(tmp_path / "m.gguf", "qwen2", "Q8_0")
    source = open_source(tmp_path / "m.gguf")
    convert(cast(source, dtype), tmp_path / "hf")
    made = DirectorySource(tmp_path / "hf")
    for name in made.tensors:
        assert made.read(name).dtype == kind
        assert (made.read(name) == source.read(name).astype(kind)).all()
    assert made.config["torch_dtype"] == dtype


def test_a_value_beyond_float16_is_refused_by_name(tmp_path):
    values = np.ones((3, 40), SINGLE)
    values[1, 5] = -65520
    source = written(tmp_path / "m", a=values)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm' / 'model.safetensors'}: a holds -65520, beyond float16; choose "
            "another --dtype, such as bfloat16")):
        convert(cast(source, "float16"), tmp_path / "hf")
    # So that another dtype can be chosen without more ado.
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    # What rounds to the largest number is not beyond it.
    values[1, 5] = -65519
    source = written(tmp_path / "n", a=values)
    lost, = convert(cast(source, "float16"), tmp_path / "hf")["model.safetensors"]
    assert (lost.error, lost.largest) == (15, 65519)
    assert lost.line() == (
        "a: float32 to float16, largest error 1.50e+01 (2.3e-04 of its largest value)")


def test_infinities_stay_what_they_are(tmp_path):
    source = written(tmp_path / "m", a=np.array([[np.inf, -np.inf, np.nan, 0.1]], SINGLE))
    made = CastTensor(source.tensors["a"], "BF16").read()
    assert np.isinf(made[0, :2].astype(SINGLE)).all() and np.isnan(made[0, 2].astype(SINGLE))


def test_a_large_tensor_is_converted_in_pieces(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 700_001)).astype(SINGLE)
    source = written(tmp_path / "m", a=values)
    assert (CastTensor(source.tensors["a"], "F16").read() == values.astype(HALF)).all()
    assert b"".join(CastTensor(source.tensors["a"], "F16").pieces()) == (
        values.astype(HALF).tobytes())


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tiny_qwen2(path, "Q8_0")
    return path


def test_kept_tensors_of_a_packed_gguf(gguf, tmp_path):
    report = pack_checkpoint(gguf, tmp_path / "p", 2, dtype="auto")
    pack_checkpoint(gguf, tmp_path / "wide", 2)
    kept, wide = PackedCheckpoint(tmp_path / "p"), PackedCheckpoint(tmp_path / "wide")
    assert kept.kept[EMBEDDING].dtype == "F16" and wide.kept[EMBEDDING].dtype == "F32"
    assert kept.kept[NORM].dtype == "F32"
    lost, = report.roundings
    exact, made = wide.read_kept(EMBEDDING), kept.read_kept(EMBEDDING)
    assert (made == exact.astype(HALF)).all()
    assert lost.error == np.abs(exact - made.astype(SINGLE)).max() > 0
    assert kept.config["quantization_config"]["converted"] == {EMBEDDING: "F32"}
    assert "converted" not in wide.config["quantization_config"]
    for name in kept.matrices:
        assert (kept.tiles(name) == wide.tiles(name)).all()
    assert verify(tmp_path / "p", gguf) == verify(tmp_path / "wide", gguf) == []


def test_verify_sees_a_conversion_that_was_not_said(gguf, tmp_path):
    pack_checkpoint(gguf, tmp_path / "p", 2, dtype="auto")
    config = json.loads((tmp_path / "p" / "config.json").read_text())
    del config["quantization_config"]["converted"]
    write_json(tmp_path / "p" / "config.json", config)
    finding, = verify(tmp_path / "p", gguf)
    assert (finding.tensor, finding.message) == (
        EMBEDDING, "is F16 (1024, 128), not F32 (1024, 128)")
    for wrong in ([], {"a": 3}, "F32"):
        config["quantization_config"]["converted"] = wrong
        write_json(tmp_path / "p" / "config.json", config)
        with pytest.raises(CheckpointError, match="converted must map names to dtypes, not "):
            PackedCheckpoint(tmp_path / "p")


def test_verify_sees_another_source(tmp_path):
    tensors = make_checkpoint(tmp_path / "m", "F32")
    pack_checkpoint(tmp_path / "m", tmp_path / "p", 2, dtype="float16")
    assert verify(tmp_path / "p", tmp_path / "m") == []
    for value, text in ((9.0, "its bytes are not those of the source"),
                        (1e6, "cannot be compared: ")):
        changed = {name: values.copy() for name, values in tensors.items()}
        changed[NORM][3] = value
        save_file(changed, tmp_path / "m" / "model.safetensors")
        finding, = verify(tmp_path / "p", tmp_path / "m")
        assert finding.tensor == NORM and finding.message.startswith(text)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_kept_tensors_that_are_not_converted(tmp_path, dtype):
    # Random float32 does not fit into 16 bits, so nothing changes by default.
    make_checkpoint(tmp_path / "m", dtype)
    pack_checkpoint(tmp_path / "m", tmp_path / "a", 2)
    pack_checkpoint(tmp_path / "m", tmp_path / "b", 2, dtype="auto")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_packing_resumes_in_its_dtype_only(tmp_path):
    make_checkpoint(tmp_path / "m")

    def stop(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_checkpoint(tmp_path / "m", tmp_path / "p", 2, dtype="float16", progress=stop)
    with pytest.raises(CheckpointError, match="left by another job; remove it, or force"):
        pack_checkpoint(tmp_path / "m", tmp_path / "p", 2, dtype="float32")
    resumed = pack_checkpoint(tmp_path / "m", tmp_path / "p", 2, dtype="float16")
    whole = pack_checkpoint(tmp_path / "m", tmp_path / "q", 2, dtype="float16")
    assert contents(tmp_path / "p") == contents(tmp_path / "q")
    assert resumed.roundings == whole.roundings != ()


@pytest.mark.parametrize(("dtype", "kind"), [("float32", SINGLE), ("float16", HALF),
                                             ("bfloat16", BRAIN)])
def test_export_in_a_dtype(tmp_path, dtype, kind):
    pack_checkpoint(MODEL, tmp_path / "p", 3)
    lost = export(tmp_path / "p", tmp_path / "e", dtype=dtype)["model.safetensors"]
    packed, made = PackedCheckpoint(tmp_path / "p"), DirectorySource(tmp_path / "e")
    errors = {one.name: one.error for one in lost}
    for name, tensor in made.tensors.items():
        module = name.removesuffix(".weight")
        expected = (dequantize(packed.matrix(module)) if module in packed.matrices
                    else packed.read_kept(name).astype(SINGLE))
        values = tensor.read()
        assert values.dtype == kind and (values == expected.astype(kind)).all(), name
        # Matrices become float16 without a request, and then no error is reported.
        assert name not in errors or errors[name] == np.abs(expected - values.astype(SINGLE)).max()
    assert errors.keys() >= (set() if dtype == "float16" else {
        f"{name}.weight" for name in packed.matrices if dtype == "bfloat16"})
    assert EMBEDDING in errors or dtype == "bfloat16"
    assert made.config.get("dtype", made.config.get("torch_dtype")) == dtype


def test_export_of_weights_beyond_float16_as_bfloat16(tmp_path):
    written(tmp_path / "m", **{"a.weight": np.full((2, 16), 7e4, SINGLE)})
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    with pytest.raises(CheckpointError, match="a.weight has weights beyond float16; export it "
                                              "with another --dtype, such as float32$"):
        export(tmp_path / "o", tmp_path / "e", dtype="float16")
    export(tmp_path / "o", tmp_path / "e", dtype="bfloat16", force=True)
    assert (DirectorySource(tmp_path / "e").read("a.weight") == BRAIN(7e4)).all()
