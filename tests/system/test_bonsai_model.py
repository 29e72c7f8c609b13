"""A random model in the form of Ternary Bonsai: PQ2_0 with rotated weights, computed by the RTL."""

import pytest
import torch

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.recover.import_checkpoint import import_checkpoint
from tritstream.host.model.load import load_model
from tritstream.host.model.packed import load_packed

from support.rotated_gguf import IDS, rotated_model


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bonsai")
    rotated_model(folder / "model.gguf")
    import_checkpoint(folder / "model.gguf", folder / "packed")
    return folder / "packed"


def test_scales_are_those_of_the_file_and_exact(packed):
    checkpoint = PackedCheckpoint(packed)
    assert {(info.depth, info.layout.group) for info in checkpoint.matrices.values()} == {(1, 128)}
    for name in checkpoint.matrices:
        scales = checkpoint.matrix(name).scales
        assert str(scales.stored.dtype) == "float16"
        assert scales.exactness.rows == 0


@torch.inference_mode()
def test_the_rtl_computes_the_logits_of_golden(packed):
    """Bit for bit, for all tokens of a prompt, and for the tokens that are drawn after it."""
    golden, device = load_model(packed, backend="golden"), load_packed(packed, "sim:lanes=8")
    assert torch.equal(device(IDS).logits, golden(IDS).logits)
    drawn = []
    for model in (golden, device):
        torch.manual_seed(1)
        drawn.append(model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=6,
                                    min_new_tokens=6, do_sample=True)[0, IDS.shape[1]:].tolist())
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 3
