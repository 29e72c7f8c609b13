"""The shipped ternary model: packed without loss, and computed by the RTL."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.recover.import_checkpoint import import_checkpoint
from tritstream.host.model.load import load_model
from tritstream.host.model.packed import load_packed

from support.model_helpers import greedy

MODELS = Path(__file__).parents[2] / "models"
MODEL = MODELS / "tiny-ternary"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("ternary") / "packed"
    import_checkpoint(MODEL, path)
    return path


def test_every_matrix_is_packed_without_loss(packed):
    checkpoint, tensors = PackedCheckpoint(packed), load_file(MODEL / "model.safetensors")
    assert len(checkpoint.matrices) == 28
    assert checkpoint.inputs.activations == "bitnet"
    for name, info in checkpoint.matrices.items():
        codes, scale = tensors[f"{name}.weight"], tensors[f"{name}.weight_scale"]
        levels = np.concatenate([codes >> 2 * place & 3 for place in range(4)]).astype(np.float32)
        assert info.depth == 1
        assert (dequantize(checkpoint.matrix(name)) == (levels - 1) * np.float32(scale)).all()


def test_the_rtl_generates_the_tokens_of_golden(packed):
    tokens = greedy(load_model(packed, backend="golden"), 8)
    assert len(set(tokens)) > 4
    assert greedy(load_packed(packed, "sim:lanes=16"), 8) == tokens


def test_what_the_card_says():
    figures, base = (json.loads((path / "training.json").read_text())
                     for path in (MODEL, MODELS / "tiny-qwen2"))
    card = (MODEL / "README.md").read_text()
    for loss in figures["bits_per_byte"].values():
        assert f"| {loss:.3f} |" in card
        assert loss < base["bits_per_byte"]["packed"]["1"]
    digest = hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest()
    assert digest == figures["model_sha256"]
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 1_000_000
