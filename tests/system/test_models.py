"""The shipped model: what it is, what it states, that its activations are its own; its corpus."""

import hashlib
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from tritstream.scripts.corpus import hold_out, read_corpus

MODEL = Path(__file__).parents[2] / "models" / "tiny-qwen2"
DTYPES = {"BF16": ml_dtypes.bfloat16}
TOKENS = 16


def read_json(name):
    return json.loads((MODEL / name).read_text(encoding="utf-8"))


def read_weights():
    data = (MODEL / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {name: read_tensor(data[8 + size :], entry) for name, entry in header.items()}


def read_tensor(data, entry):
    start, end = entry["data_offsets"]
    return np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])


@pytest.fixture(scope="module")
def config():
    return read_json("config.json")


@pytest.fixture(scope="module")
def weights():
    return read_weights()


@pytest.fixture(scope="module")
def activations():
    return load_file(MODEL / "activations.safetensors")


@pytest.fixture(scope="module")
def metadata():
    with safe_open(MODEL / "activations.safetensors", "numpy") as file:
        return file.metadata()


def linear_layers(weights):
    return {
        name.removesuffix(".weight"): weight.shape
        for name, weight in weights.items()
        if weight.ndim == 2 and ".layers." in name
    }


def rms_norm(x, weight, epsilon):
    scale = np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + epsilon)
    return x / scale * weight.astype(np.float32)


def assert_close(actual, expected):
    # Float32 sums of at most 384 terms in another order; a wrong weight is off by whole units.
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_size_at_most_four_megabytes():
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 4_000_000


def test_every_file_is_there():
    assert {path.name for path in MODEL.iterdir()} == {
        "README.md",
        "activations.safetensors",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }


def test_config_is_qwen2(config):
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["model_type"] == "qwen2"
    assert config["dtype"] == "bfloat16"
    assert config["tie_word_embeddings"] is True
    assert 1 <= config["num_key_value_heads"] < config["num_attention_heads"]


def test_weights_are_laid_out_as_qwen2(config, weights):
    layer = {"input_layernorm.weight", "post_attention_layernorm.weight"}
    layer |= {f"self_attn.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    layer |= {f"self_attn.{name}.bias" for name in ("q_proj", "k_proj", "v_proj")}
    layer |= {f"mlp.{name}.weight" for name in ("gate_proj", "up_proj", "down_proj")}
    layers = range(config["num_hidden_layers"])
    names = {f"model.layers.{index}.{name}" for index in layers for name in layer}
    assert set(weights) == names | {"model.embed_tokens.weight", "model.norm.weight"}


def test_parameters_in_range(weights):
    parameters = sum(weight.size for weight in weights.values())
    assert 900_000 <= parameters <= 1_800_000
    assert parameters == read_json("training.json")["parameters"]


def test_weights_are_finite_and_trained(weights):
    for name, weight in weights.items():
        assert np.isfinite(weight.astype(np.float32)).all(), name
        # Biases start as zeros and norms as ones: training moves each of them.
        assert len(np.unique(weight.astype(np.float32))) > 8, name


def test_rows_do_not_fill_tiles(weights):
    assert any(rows % 5 for rows, _ in linear_layers(weights).values())


def test_tokenizer_covers_the_vocabulary(config):
    vocabulary = read_json("tokenizer.json")["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(config["vocab_size"]))


def test_losses_tell_trained_from_untrained():
    losses = read_json("training.json")["bits_per_byte"]
    assert losses["trained"] < 2.3
    assert losses["untrained"] > 3.3


def test_deeper_packing_is_closer():
    losses = read_json("training.json")["bits_per_byte"]
    packed = losses["packed"]
    assert list(packed) == ["1", "2", "3", "4"]
    assert packed["1"] > packed["2"] > packed["3"] > losses["trained"] - 0.001
    assert abs(packed["4"] - losses["trained"]) < 0.01


def test_card_states_the_losses():
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    losses = read_json("training.json")["bits_per_byte"]
    for loss in (losses["untrained"], losses["trained"], *losses["packed"].values()):
        assert f"| {loss:.3f} |" in card


def test_activations_belong_to_these_weights(metadata):
    digest = hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest()
    assert metadata["model_sha256"] == digest
    assert read_json("training.json")["model_sha256"] == digest
    assert len(json.loads(metadata["token_ids"])) == TOKENS


def test_token_ids_spell_the_prompt(metadata):
    pieces = {token: text for text, token in read_json("tokenizer.json")["model"]["vocab"].items()}
    spelled = "".join(pieces[token] for token in json.loads(metadata["token_ids"]))
    assert spelled.replace("Ġ", " ") == metadata["prompt"]


def test_every_linear_layer_has_activations(weights, activations):
    shapes = linear_layers(weights)
    assert set(activations) == set(shapes)
    for name, (_, width) in shapes.items():
        assert activations[name].shape == (TOKENS, width), name
        assert activations[name].dtype == np.float32, name
        assert np.isfinite(activations[name]).all(), name


def test_first_input_is_the_normalized_embedding(config, weights, activations, metadata):
    ids = json.loads(metadata["token_ids"])
    embedding = weights["model.embed_tokens.weight"][ids].astype(np.float32)
    norm = weights["model.layers.0.input_layernorm.weight"]
    expected = rms_norm(embedding, norm, config["rms_norm_eps"])
    for name in ("q_proj", "k_proj", "v_proj"):
        assert_close(activations[f"model.layers.0.self_attn.{name}"], expected)


def test_down_projection_is_given_the_gated_product(config, weights, activations):
    for index in range(config["num_hidden_layers"]):
        mlp = f"model.layers.{index}.mlp"
        x = activations[f"{mlp}.gate_proj"]
        gate, up = (
            x @ weights[f"{mlp}.{name}.weight"].astype(np.float32).T
            for name in ("gate_proj", "up_proj")
        )
        assert_close(activations[f"{mlp}.down_proj"], gate / (1 + np.exp(-gate)) * up)


def test_attention_of_the_first_token_is_its_value(config, weights, activations):
    repeat = config["num_attention_heads"] // config["num_key_value_heads"]
    for index in range(config["num_hidden_layers"]):
        attention = f"model.layers.{index}.self_attn"
        value = weights[f"{attention}.v_proj.weight"].astype(np.float32)
        value = value @ activations[f"{attention}.v_proj"][0]
        value += weights[f"{attention}.v_proj.bias"].astype(np.float32)
        heads = value.reshape(config["num_key_value_heads"], -1)
        expected = np.repeat(heads, repeat, axis=0).ravel()
        assert_close(activations[f"{attention}.o_proj"][0], expected)


def test_corpus_of_text_files_in_order_of_names(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.txt").write_text(f"{name}: 5 £\n", encoding="utf-8")
    training, held_out = hold_out(read_corpus(tmp_path), "b")
    assert [text.name for text in training] == ["a", "c"]
    assert held_out.summary == {
        "name": "b",
        "bytes": 8,
        "sha256": hashlib.sha256("b: 5 £\n".encode()).hexdigest(),
    }


def test_corpus_held_out_wrong_name(tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(ValueError, match=r"^Held-out text must be one of \['a'\], not 'b'$"):
        hold_out(read_corpus(tmp_path), "b")


def test_corpus_wrong_file(tmp_path):
    path = tmp_path / "a.deb"
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"^Corpus file must be a Debian package, not b'no archi'"):
        read_corpus(path)


def test_corpus_wrong_directory(tmp_path):
    with pytest.raises(ValueError, match=r"^Corpus must be an R data package or hold \*\.txt"):
        read_corpus(tmp_path)
