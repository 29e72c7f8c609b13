"""Text that a model writes for its own calibration."""

import pytest
import torch
from transformers import GenerationConfig

from tritstream.host.model import self_text
from tritstream.host.model.load import load_model
from tritstream.host.model.self_text import self_windows

from support.model_helpers import MODEL, logits

VOCABULARY = 1024


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL)


def test_windows_begin_as_told_and_are_the_same_again(model, monkeypatch):
    monkeypatch.setattr(self_text, "_BATCH", 2)
    drawn, state = [], torch.get_rng_state()
    found = self_windows(model, VOCABULARY, range(1000), 12, 3, start=[5, 6],
                         progress=drawn.append)
    assert [window.shape for window in found] == [(12,)] * 3
    assert all(window.dtype == torch.int64 for window in found)
    assert all(window[:2].tolist() == [5, 6] and window[2] >= 1000 for window in found)
    assert sum(drawn) == 3 * (12 - 3)
    assert not torch.equal(found[0][3:], found[1][3:]) and not torch.equal(found[0], found[2])
    assert torch.equal(torch.get_rng_state(), state)
    again = self_windows(model, VOCABULARY, range(1000), 12, 3, start=[5, 6])
    assert all(map(torch.equal, found, again))


@pytest.mark.parametrize("size", [1, 2])
def test_windows_without_room_for_text(model, size):
    found = self_windows(model, VOCABULARY, [], size, 2, start=[5])
    assert [len(window) for window in found] == [size] * 2 and found[0][0] == 5


def test_tokens_have_the_probabilities_of_the_model(model, monkeypatch):
    # Whatever the checkpoint's settings prefer: these would repeat the likeliest token.
    settings = GenerationConfig(do_sample=True, temperature=0.01, top_k=1, eos_token_id=[0, 1, 2])
    monkeypatch.setattr(model, "generation_config", settings)
    monkeypatch.setattr(self_text, "random_windows", lambda *_: [torch.tensor([7])] * 4096)
    monkeypatch.setattr(self_text, "_BATCH", 4096)
    seconds = torch.stack(self_windows(model, VOCABULARY, [], 2, 4096))[:, 1]
    wanted = torch.softmax(logits(model, torch.tensor([[7]]))[0], dim=-1)
    shares = torch.bincount(seconds, minlength=VOCABULARY) / len(seconds)
    error = torch.sqrt(wanted * (1 - wanted) / len(seconds))
    assert ((shares - wanted).abs() < 5 * error + 2 / len(seconds)).all()
    assert shares.max() < 0.9 and model.generation_config is settings
