import math

import pytest
import torch
from transformers import GenerationConfig

from tritstream.golden.errors import CheckpointError
from tritstream.host.model.sampling import GREEDY, PossibleToken, Sampling

from support.golden_helpers import message


@pytest.mark.parametrize(("options", "reason"), [
    ({"temperature": -0.5}, "temperature must be 0, or finite and at least 1e-06, not -0.5"),
    ({"temperature": math.nan}, "temperature must be 0, or finite and at least 1e-06, not nan"),
    ({"top_p": 0.0}, "top-p must be above 0 and at most 1, not 0.0"),
    ({"top_p": 1.5}, "top-p must be above 0 and at most 1, not 1.5"),
    ({"top_p": math.nan}, "top-p must be above 0 and at most 1, not nan"),
    ({"top_k": -1}, "top-k must be 0 or more, not -1"),
    ({"seed": 1 << 64}, "seed must be 0..18446744073709551615, not 18446744073709551616"),
])
def test_out_of_range(options, reason):
    with pytest.raises(ValueError, match=message(reason)):
        Sampling(**options)


def test_what_is_not_given_is_the_checkpoints():
    settings = GenerationConfig(top_k=7, top_p=0.5)
    assert Sampling(0.5).arguments(settings) == {
        "do_sample": True, "temperature": 0.5, "top_k": 7, "top_p": 0.5}
    assert Sampling(0.5, 0.9, 3).arguments(settings)["top_k"] == 3
    # Not the 50 of transformers.
    assert Sampling(0.5).arguments(GenerationConfig()) == {
        "do_sample": True, "temperature": 0.5, "top_k": 0, "top_p": 1.0}
    assert not GREEDY.arguments(settings)["do_sample"]


def test_a_choice_that_would_be_arbitrary():
    check, fine = PossibleToken("m"), torch.tensor([[0.0, -math.inf, 2.0]])
    assert check(None, fine) is fine
    for value, reason in (
            (math.nan, "m: its logits are NaN; check the weights of the source, and "
                       "generation_config.json"),
            (-math.inf, "m: its logits exclude every token; check the weights of the source, and "
                        "the tokens that generation_config.json suppresses")):
        with pytest.raises(CheckpointError, match=message(reason)):
            check(None, torch.full((1, 4), value))
    with pytest.raises(CheckpointError, match="NaN"):
        check(None, torch.tensor([[1.0, math.nan]]))
