import json

import numpy as np
import pytest

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.quantize import quantize
from tritstream.golden.quantizers.registry import METHODS, Method, method_of

from support.golden_helpers import contents, make_checkpoint, message


def halved(weights, depth, name):
    """A method of our own: that of half the weights."""
    return quantize(np.asarray(weights).astype(np.float32) / 2, depth, name)


def test_method_decides_codes_and_codec(tmp_path):
    tensors = make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, method=Method("halved", halved))
    packed = PackedCheckpoint(tmp_path / "o")
    assert packed.codec == "halved"
    name = "model.layers.1.mlp.up_proj"
    wanted = quantize(tensors[f"{name}.weight"].astype(np.float32) / 2, 2)
    np.testing.assert_array_equal(packed.table(name), wanted.table)


def test_default_is_search(tmp_path):
    make_checkpoint(tmp_path / "m")
    pack_checkpoint(tmp_path / "m", tmp_path / "o", 2)
    pack_checkpoint(tmp_path / "m", tmp_path / "p", 2, method=method_of("search"))
    assert contents(tmp_path / "o") == contents(tmp_path / "p")
    config = json.loads((tmp_path / "o" / "config.json").read_text())
    assert config["quantization_config"]["codec"] == "search"


@pytest.mark.parametrize("other", [
    Method("other", quantize), Method("search", quantize, {"text": "5b1f"})])
def test_rest_of_another_method(tmp_path, other):
    make_checkpoint(tmp_path / "m")

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, progress=stop)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'o'}.partial: left by another job; remove it, or force")):
        pack_checkpoint(tmp_path / "m", tmp_path / "o", 2, method=other)


def test_unknown_method():
    with pytest.raises(ValueError, match=message(
            f"method must be one of {', '.join(METHODS)}, not best")):
        method_of("best")
