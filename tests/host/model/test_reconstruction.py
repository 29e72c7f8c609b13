"""Reconstruction: the results of quantized layers come nearer, and a kill changes no byte."""

import numpy as np
import pytest
import torch
from torch import nn

from tritstream.golden.layer_job import LayerJob, ReconstructionJob
from tritstream.golden.matrix import TritMatrix, dequantize
from tritstream.golden.open_source import open_source
from tritstream.golden.quantize import quantize
from tritstream.golden.quantizers.moments import Moments
from tritstream.golden.quantizers.reconstruction import Reconstruction
from tritstream.host.model.layer_calibration import LayerCalibration
from tritstream.host.model.layered import LayeredModel
from tritstream.host.model.load import load_model
from tritstream.host.model.reconstruction import LayerReconstruction, Tuning
from tritstream.host.model.tuned_linear import TunedLinear
from tritstream.scripts.weights.linear_layers import linear_layers

from support.architecture_cases import save_model

CPU = torch.device("cpu")


def windows():
    rng = torch.Generator().manual_seed(0)
    return [torch.randint(3, 64, (size,), generator=rng) for size in (40, 40, 40, 21)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "model", "llama")


@pytest.fixture(scope="module")
def moments(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("moments") / "m.safetensors"
    source, layered = open_source(model), LayeredModel(open_source(model), CPU)
    with LayerJob(path, {}) as job:
        LayerCalibration(layered, linear_layers(source, layered.model), windows(), job, {}).run()
    return Moments(path)


def reconstruct(path, moments, output, epochs=4, advance=None):
    layered = LayeredModel(open_source(path), CPU)
    layers = linear_layers(open_source(path), layered.model)
    matrices = {name: module for name, module in layers.items() if "layers" in name}
    with ReconstructionJob(output, {"epochs": epochs}) as job:
        LayerReconstruction(layered, matrices, dict.fromkeys(matrices, 2), moments, windows(), job,
                            {"text": "x"}, tuning=Tuning(epochs)).run(advance)
    return Reconstruction(output), list(matrices)


@torch.inference_mode()
def last_results(path, found=None, names=()):
    """Results of the last layer, of the model or of the quantized model."""
    model = load_model(path)
    for name in names:
        weight = model.get_submodule(name).weight
        weight.data = torch.from_numpy(dequantize(found.of(name, tuple(weight.shape), 2)))
    return torch.cat([model.base_model(window[None]).last_hidden_state[0] for window in windows()])


def test_results_come_nearer_to_those_of_the_model(tmp_path, model, moments):
    due, errors = last_results(model), []
    for epochs in (0, 8):
        found, names = reconstruct(model, moments, tmp_path / f"{epochs}.safetensors", epochs)
        assert len(names) == 14
        errors.append(float((last_results(model, found, names) - due).square().mean()))
    assert errors[1] < 0.8 * errors[0]


class Stopped(Exception):
    pass


@pytest.mark.parametrize("label", ["layer 1 of 2, pass 2 of 4", "layer 2 of 2, unquantized",
                                   "layer 2 of 2, pass 1 of 4", "layer 2 of 2, quantized"])
def test_resumes_at_a_layer_with_the_same_bytes(tmp_path, model, moments, label):
    reconstruct(model, moments, tmp_path / "whole.safetensors")
    out = tmp_path / "r.safetensors"

    def stop(_, reached):
        if reached == label:
            raise Stopped

    with pytest.raises(Stopped):
        reconstruct(model, moments, out, advance=stop)
    reconstruct(model, moments, out)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.safetensors",
                                                                "whole.safetensors"]


@pytest.fixture
def tuned():
    torch.manual_seed(0)
    layer = nn.Linear(37, 5).requires_grad_(False)
    matrix = quantize(layer.weight.numpy(), 2)
    return layer, matrix, TunedLinear(layer, matrix)


@torch.no_grad()
def test_a_layer_starts_with_the_quantized_weights(tuned):
    layer, matrix, found = tuned
    x = torch.randn(3, 37)
    due = x @ torch.from_numpy(dequantize(matrix)).T + layer.bias
    torch.testing.assert_close(found(x), due)
    same = found.matrix()
    assert (same.q == matrix.q).all() and (same.codes == matrix.codes).all()
    assert (same.table == matrix.table).all()


@torch.no_grad()
def test_integers_stay_in_range_and_tables_ascend(tuned):
    layer, _, found = tuned
    found.levels += 3
    found.factors[:] = torch.linspace(1, -5, 27)
    changed = found.matrix()
    assert changed.q.max() == 4
    assert (np.diff(changed.table) >= 0).all()
    assert not changed.q[:, 37:].any()
    x = torch.randn(3, 37)
    torch.testing.assert_close(found(x), x @ torch.from_numpy(dequantize(changed)).T + layer.bias)


def test_derivatives_pass_the_rounding(tuned):
    _, matrix, found = tuned
    with torch.enable_grad():
        found(torch.ones(1, 37)).sum().backward()
    scales = (matrix.table[matrix.codes] / 4).repeat(16, axis=1)[:, :37]
    np.testing.assert_allclose(found.levels.grad.numpy(), scales, rtol=1e-6)
    assert isinstance(found.matrix(), TritMatrix)
