"""A base whose grid is destroyed: the noise, and what is refused."""

import numpy as np
import pytest

from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.source import GgufSource
from tritstream.golden.open_source import open_source
from tritstream.scripts.reports.arena.base import dithered

from support.cli_helpers import run_command
from support.gguf_helpers import write_random

ROWS = "model.layers.0.self_attn.q_proj.weight"


def file(tmp_path, kind="Q4_1"):
    write_random(tmp_path / "model.gguf", kind=kind)
    return GgufSource(tmp_path / "model.gguf", tokenizer=False)


def steps(values):
    """Step of the grid of each weight, from the 16 levels of its block of 32: max less min."""
    blocks = values.reshape(-1, 32)
    return np.repeat((blocks.max(1) - blocks.min(1)) / 15, 32).reshape(values.shape)


@pytest.mark.parametrize("name", [ROWS, "model.layers.1.mlp.down_proj.weight"])
def test_the_noise_is_uniform_in_half_a_step_on_either_side(tmp_path, name):
    source = file(tmp_path)
    before = source.tensors[name].read()
    moved = (dithered(source, 0).tensors[name].read() - before) / steps(before)
    assert np.abs(moved).max() <= 0.5001
    assert np.histogram(moved, 4, (-0.5001, 0.5001))[0].min() > 0.2 * moved.size
    assert len(np.unique(moved)) > 0.99 * moved.size


def test_the_noise_is_of_seed_and_name(tmp_path):
    source = file(tmp_path)
    values = [dithered(source, seed).read(ROWS) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(values[0], values[1])
    assert (values[0] != values[2]).mean() > 0.99


def test_vectors_and_plain_matrices_stay(tmp_path):
    source = file(tmp_path, "F16")
    changed = dithered(source, 0)
    for name in source.tensors:
        np.testing.assert_array_equal(changed.read(name), source.read(name))


def test_a_step_is_that_of_the_block_in_every_even_type(tmp_path):
    for kind, levels in (("Q4_0", 16), ("Q5_0", 32), ("Q5_1", 32), ("Q8_0", 255)):
        source = file(tmp_path, kind)
        before = source.read(ROWS)
        moved = np.abs(dithered(source, 0).read(ROWS) - before).reshape(-1, 32).max(1)
        spread = np.ptp(before.reshape(-1, 32), axis=1)
        # Blocks of Q8_0 use half of their levels at least, the others nearly all of them.
        assert (moved <= spread / (0.4 * levels)).all(), kind
        assert (moved >= 0.3 * spread / levels).all(), kind


def test_a_type_without_even_levels_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"/model.gguf: model.embed_tokens.weight is MXFP4, "
                       r"whose levels are not evenly spaced; give a model in Q4_0, Q4_1, Q5_0, "
                       r"Q5_1, Q8_0$"):
        dithered(file(tmp_path, "MXFP4"), 0)


def test_the_command_writes_bfloat16(tmp_path):
    from support.gguf_helpers import tiny_qwen2

    tiny_qwen2(tmp_path / "tiny.gguf", "Q8_0")
    code, out, err = run_command("dev", "arena", "base", tmp_path / "tiny.gguf", "-o",
                                 tmp_path / "base")
    assert (code, out) == (0, f"base: {tmp_path}/base\n"), err
    base = open_source(tmp_path / "base")
    assert {tensor.dtype for tensor in base.tensors.values()} == {"BF16"}
    assert (tmp_path / "base" / "tokenizer.json").is_file()
