"""Matrices that are excluded on request."""

import pytest

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.host.model.load import load_model

from support.architecture_cases import packed, shipped
from support.cli_helpers import run_command
from support.golden_helpers import message
from support.model_helpers import MODEL


def test_exclude(tmp_path):
    code, out, _ = run_command(
        "quantize", MODEL, "-o", tmp_path / "o", "--exclude", "*.down_proj", "--exclude",
        "layers.0.*", "--exclude", "k_proj")
    assert code == 0
    checkpoint = PackedCheckpoint(tmp_path / "o")
    assert not any(name.endswith(("down_proj", "k_proj")) or ".0." in name
                   for name in checkpoint.matrices)
    assert len(checkpoint.matrices) == 3 * 5
    fields = checkpoint.config["quantization_config"]
    assert fields["exclude"] == ["*.down_proj", "layers.0.*", "k_proj"]
    assert "model.layers.3.mlp.down_proj" in fields["modules_to_not_convert"]
    assert "  left out on request: model.layers.*.mlp.down_proj.weight, " in out
    assert verify(tmp_path / "o", MODEL) == []
    load_model(tmp_path / "o")


def test_exclude_wins_over_include_and_must_fit(tmp_path):
    _, out = packed(shipped(tmp_path), include=["embed_tokens"], exclude=["embed_*"])
    assert "model.embed_tokens" not in PackedCheckpoint(out).matrices
    with pytest.raises(CheckpointError, match=message(
            f"{MODEL}: no matrix is named *.dwn_proj, which is to be left out; check the name")):
        pack_checkpoint(MODEL, tmp_path / "x", 2, exclude=["*.dwn_proj"])
