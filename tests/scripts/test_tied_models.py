"""Models whose head is the embedding, stored as one of the two, or as both."""

import numpy as np
import pytest
import torch

from tritstream.golden.packed.export import export
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.model.load import load_model
from tritstream.host.model.traffic import token_traffic

from support.architecture_cases import changed, found_in, logits, packed, shipped
from support.cli_helpers import run_command


def tie(tensors, head=None):
    """Store the head of a tied model, in place of the embedding or next to it."""
    tensors["lm_head.weight"] = (
        tensors.pop("model.embed_tokens.weight") if head is None else head)


@pytest.mark.parametrize("include", [[], ["lm_head"]])
def test_a_tied_model_stored_by_its_head(tmp_path, include):
    _, out = packed(changed(tmp_path, tie), include=include)
    assert found_in(out) == []
    model = load_model(out)
    expected = packed(shipped(tmp_path), include=["embed_tokens"] if include else [])[1]
    np.testing.assert_array_equal(logits(out), logits(expected))
    traffic = token_traffic(model, PackedCheckpoint(out))
    usual = token_traffic(load_model(expected), PackedCheckpoint(expected))
    assert traffic == usual
    code, text, _ = run_command("generate", out, "--prompt", "She had", "--tokens", "3",
                                "--backend", "reference")
    assert code == 0 and "weights of a token" in text


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("include", [["lm_head"], ["embed_tokens"], ["lm_head", "embed_tokens"]])
def test_a_tied_model_that_stores_both(tmp_path, include, same):
    def both(tensors):
        tie(tensors, tensors["model.embed_tokens.weight"] * (1 if same else 2))

    _, out = packed(changed(tmp_path, both), include=include)
    assert found_in(out) == []
    # Different values are not tied, even if config.json says so; transformers does the same.
    export(out, tmp_path / "exported")
    torch.testing.assert_close(logits(out), logits(tmp_path / "exported"), rtol=0, atol=0.1)
    token_traffic(load_model(out), PackedCheckpoint(out))
