"""Backends that compute golden's integers on the host: cpu, and torch in place of cuda."""

import re
import shutil

import pytest
import torch

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.errors import HostError
from tritstream.host.kernels.torch_matrix import TorchMatrix
from tritstream.host.model import backends
from tritstream.host.model.backends import CpuBackend, GoldenBackend, TorchBackend
from tritstream.host.model.load import load_model, make_backend

from support.golden_helpers import message, rewrite
from support.model_helpers import MODEL, greedy, logits, pack_llama

MIXED = {"*": 8, "*.down_proj": 16}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3)
    return path


def on_torch(bits):
    return TorchBackend(bits, device="cpu")


@pytest.mark.parametrize("kind", [CpuBackend, on_torch])
@pytest.mark.parametrize("bits", [8, 16, MIXED], ids=str)
def test_logits_and_tokens_are_those_of_golden(packed, kind, bits):
    golden = load_model(packed, backend=GoldenBackend(bits))
    model = load_model(packed, backend=kind(bits))
    assert torch.equal(logits(model), logits(golden))
    assert greedy(model, 12) == greedy(golden, 12)


@pytest.mark.parametrize("kind", [CpuBackend, on_torch])
def test_odd_sizes_biases_and_a_packed_head(tmp_path, kind):
    _, path = pack_llama(tmp_path)
    ids = torch.arange(20)[None]
    assert torch.equal(logits(load_model(path, backend=kind(8)), ids),
                       logits(load_model(path, backend="golden"), ids))


@pytest.mark.parametrize("bits", [8, 16])
def test_activations_of_any_size(packed, bits):
    """Vectors of zeros, the least and the largest float32, and more rows than a part has."""
    checkpoint = PackedCheckpoint(packed)
    name = next(iter(checkpoint.matrices))
    x = torch.randn(40, checkpoint.matrices[name].shape[1], generator=torch.manual_seed(0))
    x[1], x[2], x[3], x[4] = 0, x[2] * 1e-45, x[3] * 1e37, 7
    wanted = GoldenBackend(bits).prepare(checkpoint, name)(x)
    assert 1e36 < wanted.abs().max() < torch.inf
    for backend in (CpuBackend(bits), on_torch(bits)):
        found = backend.prepare(checkpoint, name)(x)
        assert found.dtype == torch.float32
        assert torch.equal(found, wanted)


def test_names_of_backends(packed):
    assert isinstance(make_backend("cpu", 16), CpuBackend)
    golden, cpu = (load_model(packed, backend=name, activation_bits=16)
                   for name in ("golden", "cpu"))
    assert torch.equal(logits(cpu), logits(golden))


@pytest.mark.parametrize("kind", [CpuBackend, on_torch])
def test_wrong_bits(kind):
    with pytest.raises(ValueError, match=message("activation bits must be 8 or 16, not 12")):
        kind(12)


@pytest.mark.parametrize("kind", [GoldenBackend, CpuBackend, on_torch])
def test_a_damaged_table_is_named(packed, tmp_path, kind):
    path, name = shutil.copytree(packed, tmp_path / "damaged"), "model.layers.0.mlp.up_proj"

    def change(tensors, _):
        tensors[f"{name}.scales"][5] = -1

    rewrite(path, change)
    with pytest.raises(CheckpointError, match=re.escape(f"{name}.scales: table must be finite")):
        load_model(path, backend=kind(8))


@pytest.mark.parametrize("kind", [GoldenBackend, CpuBackend, on_torch])
def test_a_vector_that_is_not_finite(packed, kind):
    checkpoint = PackedCheckpoint(packed)
    name = next(iter(checkpoint.matrices))
    product = kind(8).prepare(checkpoint, name)
    x = torch.ones(2, checkpoint.matrices[name].shape[1])
    x[1, 3] = torch.nan
    with pytest.raises(ValueError, match=message(
            "activations must be finite, not nan at (1, 3)")):
        product(x)


def test_without_numba(monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    with pytest.raises(HostError, match=message(
            "the backend cpu needs numba: pip install 'tritstream[fast]', or take the backend "
            "golden: the results are the same")):
        make_backend("cpu")


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HostError, match=message(
            "the backend cuda needs a GPU, and torch finds none: install a torch for CUDA, or take "
            "the backend cpu: the results are the same")):
        make_backend("cuda")


def test_weights_of_the_gpu_stay_packed(packed):
    checkpoint = PackedCheckpoint(packed)
    name = "model.layers.0.mlp.up_proj"
    info, tiles = checkpoint.matrices[name], checkpoint.tiles(name)
    matrix = TorchMatrix((tiles, checkpoint.table(name), info.depth, info.shape),
                         torch.device("cpu"))
    tables = 256 * 5 * 8 + 27 * 8 + 8
    held = [value for value in vars(matrix).values() if isinstance(value, torch.Tensor)]
    assert tiles.nbytes <= sum(each.nbytes for each in held) <= tiles.nbytes + tables
