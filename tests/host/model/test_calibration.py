"""Calibration: what it sums up, and that it foretells what errors cost."""

import numpy as np
import pytest
import torch

from tritstream.golden.matrix import dequantize
from tritstream.golden.quantize import quantize
from tritstream.golden.quantizers.moments import Moment
from tritstream.host.model import calibration
from tritstream.host.model.calibration import collect_moments, random_windows
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.quality import Prediction, kl_divergence

from support.model_helpers import MODEL, logits

UP, DOWN = "model.layers.1.mlp.up_proj", "model.layers.2.mlp.down_proj"


def windows(count, size, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 1000, (size,), generator=rng) for _ in range(count)]


#: Of the kind that the model was trained on.
TEXT = """\
It is a truth universally acknowledged, that a single man in possession of a good fortune, must be
in want of a wife. However little known the feelings or views of such a man may be on his first
entering a neighbourhood, this truth is so well fixed in the minds of the surrounding families,
that he is considered the rightful property of some one or other of their daughters."""


@pytest.fixture(scope="module")
def text_windows():
    return torch.tensor(load_tokenizer(MODEL)(TEXT).input_ids).split(64)[:2]


def by_definition(name, window, seed):
    """F and r of one window, token by token."""
    model = load_model(MODEL).requires_grad_(False)
    seen = {}

    def watch(_, inputs, results):
        results.retain_grad()
        seen["x"], seen["y"] = inputs[0][0].double(), results

    model.get_submodule(name).register_forward_hook(watch)
    embedded = model.get_input_embeddings()(window[None]).requires_grad_(True)
    shares = torch.log_softmax(model(inputs_embeds=embedded).logits[0].float(), dim=-1)
    came = torch.multinomial(shares.exp().detach(), 1,
                             generator=torch.Generator().manual_seed(seed))
    (-shares.gather(1, came)).sum().backward()
    squares = seen["y"].grad[0].double() ** 2
    inputs = sum(g2.mean() * torch.outer(x, x)
                 for x, g2 in zip(seen["x"], squares, strict=True)) / len(window)
    results = squares.mean(dim=0)
    return inputs.detach().numpy(), (results / results.mean()).numpy()


@pytest.mark.parametrize("block", [2048, 100])
def test_moments_are_what_they_are_defined_as(monkeypatch, block):
    for module in ("tritstream.golden.quantizers.moments", "tritstream.host.model.calibration"):
        monkeypatch.setattr(f"{module}.BLOCK", block)
    window = windows(1, 20)[0]
    calls = []
    found = collect_moments(load_model(MODEL), {"a": UP, "b": DOWN}, [window], seed=7,
                            progress=calls.append)
    assert calls == [0, 1]
    for name, module in (("a", UP), ("b", DOWN)):
        inputs, results = by_definition(module, window, 7)
        np.testing.assert_allclose(found[name].results, results, rtol=1e-3, atol=1e-6)
        inputs += 0.05 * inputs.diagonal().mean() * np.eye(len(inputs))
        for columns, part in found[name].blocks():
            np.testing.assert_allclose(part, inputs[columns, columns], rtol=1e-3,
                                       atol=1e-4 * np.abs(inputs).max())


class Restored:
    """Storage that has the sums of the first windows."""

    def __init__(self, windows):
        self.windows, self.offered = windows, []

    def restore(self, sums):
        return self.windows

    def offer(self, sums, windows):
        self.offered.append(windows)


@pytest.mark.parametrize(("restored", "calls"), [(0, [0, 1, 2]), (1, [1, 2]), (2, [2])])
def test_progress_starts_at_the_restored_windows(restored, calls):
    reported, keeper = [], Restored(restored)
    collect_moments(load_model(MODEL), {"a": UP}, windows(2, 8), progress=reported.append,
                    keeper=keeper)
    assert reported == calls and keeper.offered == calls[1:]


def test_a_layer_that_is_not_linear():
    with pytest.raises(TypeError, match="^model.norm must be a linear layer, not Qwen2RMSNorm$"):
        collect_moments(load_model(MODEL), {"a": "model.norm"}, [])


def test_hooks_are_gone_and_so_are_gradients():
    model = load_model(MODEL)
    before = logits(model)
    hooks = dict(model.get_submodule(UP)._forward_hooks)
    collect_moments(model, {"a": UP}, windows(1, 8))
    assert dict(model.get_submodule(UP)._forward_hooks) == hooks
    assert all(p.grad is None for p in model.parameters())
    assert (logits(model) == before).all()


def test_loss_foretells_the_divergence(text_windows):
    # Of each matrix alone, quantized to 2 trits: the sum, within a factor of 2.
    names = [f"model.layers.{layer}.{name}" for layer, name in (
        (0, "self_attn.v_proj"), (1, "mlp.up_proj"), (2, "mlp.down_proj"), (3, "mlp.gate_proj"))]
    model = load_model(MODEL)
    moments = collect_moments(model, {name: name for name in names}, text_windows)
    exact = [Prediction(logits(model, ids[None]).numpy()) for ids in text_windows]
    predicted = measured = 0.0
    for name in names:
        weight = model.get_submodule(name).weight
        fine = weight.detach().clone()
        weight.data = torch.from_numpy(dequantize(quantize(fine.numpy(), 2)))
        predicted += moments[name].loss((weight.data - fine).numpy())
        measured += np.mean([
            kl_divergence(base, Prediction(logits(model, ids[None]).numpy())).mean()
            for base, ids in zip(exact, text_windows, strict=True)])
        weight.data = fine
    assert 0.5 < predicted / measured < 2


def test_random_windows():
    found = random_windows(50, [3, 7], 400, 3)
    assert [len(one) for one in found] == [400] * 3
    seen = set(torch.cat(found).tolist())
    assert seen == set(range(50)) - {3, 7}
    assert all((a == b).all() for a, b in zip(found, random_windows(50, [3, 7], 400, 3),
                                              strict=True))


def test_results_that_nothing_depends_on():
    sums = calibration.Sums(torch.nn.Linear(3, 2))
    moment = sums.moment(5)
    assert isinstance(moment, Moment)
    assert moment.results.tolist() == [1, 1] and not moment.inputs.any()
