"""Calibration layer by layer: the statistics of the complete model, with one layer in memory."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tritstream.golden.errors import CheckpointError
from tritstream.golden.layer_job import LayerJob
from tritstream.golden.open_source import open_source
from tritstream.golden.quantizers.moments import Moments
from tritstream.host.errors import HostError
from tritstream.host.model.calibration import collect_moments
from tritstream.host.model.layer_calibration import LayerCalibration
from tritstream.host.model.layer_steps import choose_device
from tritstream.host.model.layered import LayeredModel
from tritstream.host.model.load import load_model
from tritstream.scripts.weights.linear_layers import linear_layers

from support.architecture_cases import changed, save_model
from support.golden_helpers import message
from support.model_helpers import MODEL

CPU = torch.device("cpu")


def windows(vocabulary=64):
    rng = torch.Generator().manual_seed(0)
    return [torch.randint(3, vocabulary, (size,), generator=rng) for size in (24, 24, 9)]


def calibrate(path, output, advance=None, job=None, seed=0):
    """Calibrate layer by layer; return the statistics and the model."""
    source = open_source(path)
    model = LayeredModel(source, CPU)
    matrices = linear_layers(source, model.model)
    with LayerJob(output, job or {"model": path.name}) as running:
        run = LayerCalibration(model, matrices, windows(), running, {"text": "x"}, seed=seed)
        run.run(advance and (lambda count, label: advance(model, label)))
    return Moments(output), model


def check(path, output, seed=0):
    """Compare with the statistics of the complete model."""
    found, _ = calibrate(path, output, seed=seed)
    complete = load_model(path)
    due = collect_moments(complete, linear_layers(open_source(path), complete), windows(),
                          seed=seed)
    for name, moment in due.items():
        same = found.of(name, (len(moment.results), len(moment.inputs)))
        for part, values in (("inputs", moment.inputs), ("results", moment.results)):
            np.testing.assert_allclose(getattr(same, part), values, rtol=1e-4,
                                       atol=1e-6 * np.abs(values).max(), err_msg=name)
    return due


@pytest.mark.parametrize("kind", [
    "llama", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gemma3_text", "mamba"])
def test_statistics_are_those_of_the_complete_model(tmp_path, kind):
    assert len(check(save_model(tmp_path / kind, kind), tmp_path / "m.safetensors", seed=3)) > 6


def test_sliding_windows_that_are_shorter_than_the_text(tmp_path):
    path = save_model(tmp_path / "model", "mistral", sliding_window=5)
    check(path, tmp_path / "m.safetensors")


@pytest.mark.parametrize("same", [True, False])
def test_a_head_that_is_stored_although_it_is_tied(tmp_path, same):
    path = save_model(tmp_path / "model", "llama", tie_word_embeddings=True)
    weights = load_file(path / "model.safetensors")
    head = weights["model.embed_tokens.weight"] * (1 if same else 2)
    save_file(weights | {"lm_head.weight": head}, path / "model.safetensors", {"format": "pt"})
    check(path, tmp_path / "m.safetensors")


def test_one_part_at_a_time_is_in_memory(tmp_path):
    path = save_model(tmp_path / "model", "llama", num_hidden_layers=5, tie_word_embeddings=False)
    held: dict[str, set[str]] = {}

    def look(model, label):
        held.setdefault(label, set()).update(
            name.partition(".weight")[0] for name, tensor in model.model.named_parameters()
            if not tensor.is_meta and tensor.ndim == 2)

    _, model = calibrate(path, tmp_path / "m.safetensors", look)
    assert held.pop("embedding") == {"model.embed_tokens"}
    assert held.pop("head") == {"lm_head"}
    assert len(held) == 10
    for label, names in held.items():
        index = int(label.split()[1]) - 1
        assert len(names) == 7
        assert all(name.startswith(f"model.layers.{index}.") for name in names)
    assert all(tensor.is_meta for tensor in model.model.parameters() if tensor.ndim == 2)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("label", ["embedding", "layer 2 of 2, forward", "head",
                                   "layer 1 of 2, backward"])
def test_resumes_at_a_layer_with_the_same_bytes(tmp_path, label):
    path = save_model(tmp_path / "model", "qwen3")
    calibrate(path, tmp_path / "whole.safetensors")
    out, seen = tmp_path / "m.safetensors", []

    def stop(_, reached):
        if reached == label:
            raise Stopped

    with pytest.raises(Stopped):
        calibrate(path, out, stop)
    calibrate(path, out, lambda _, reached: seen.append(reached))
    assert seen[:3] == [label] * 3
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not out.with_name("m.safetensors.partial").exists()


@pytest.mark.parametrize(("kind", "what"), [
    ("mixtral", "MixtralForCausalLM has experts"),
    ("falcon", "FalconForCausalLM gives layer 0 the argument alibi"),
    ("gpt_neox", "GPTNeoXForCausalLM gives layer 0 the argument layer_past"),
])
def test_models_of_another_kind_are_refused(tmp_path, kind, what):
    path = save_model(tmp_path / kind, kind)
    with pytest.raises(CheckpointError, match=message(
            f"{path}: {what}, so that it cannot be calibrated layer by layer; calibrate the "
            "complete model")):
        LayeredModel(open_source(path), CPU)


def test_a_missing_tensor(tmp_path):
    name = "model.layers.2.mlp.up_proj.weight"
    path = changed(tmp_path / "model", lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=message(
            f"{path}: {name} of the model is missing or of another shape; complete the "
            "checkpoint, or correct its config.json")):
        calibrate(path, tmp_path / "m.safetensors")


def test_a_weight_that_is_not_finite(tmp_path):
    path = save_model(tmp_path / "model", "llama")
    weights = load_file(path / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][2, 3] = np.nan
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.up_proj gives nan .*holds "
                                              r"nan at \[2, 3\]"):
        calibrate(path, tmp_path / "m.safetensors")


def test_a_linear_layer_outside_of_the_decoder_layers(tmp_path):
    model = LayeredModel(open_source(MODEL), CPU)
    model.model.add_module("extra", torch.nn.Linear(3, 3))
    with (LayerJob(tmp_path / "m.safetensors", {}) as job,
          pytest.raises(CheckpointError, match=message(
              f"{MODEL}: Qwen2ForCausalLM has extra, which is in no decoder layer, so that it "
              "cannot be calibrated layer by layer; calibrate the complete model"))):
        LayerCalibration(model, {"a": "extra"}, windows(), job, {})


def test_devices():
    assert choose_device("cpu") == CPU
    with pytest.raises(HostError, match=message("torch finds no device 'abacus'; it finds ") [:-1]):
        choose_device("abacus")
