"""Keys of a rotation that are refused by name."""

import numpy as np
import pytest

from tritstream.golden.errors import CheckpointError
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.quantizers.registry import Method, method_of

from support.golden_helpers import message
from support.rotated_gguf import SIGNS, rotated_model

SIGNS_WRONG = ("prism.hadamard.sign_widths and prism.hadamard.sign_values must be different "
               "widths, and as many signs of 1 or -1")
VALUES = np.concatenate([*SIGNS.values()])


def names(*added):
    return ["blk.0.attn_q.weight", *added]


@pytest.mark.parametrize(("change", "fault"), [
    ({"version": 2}, "prism.hadamard.version must be 1, not 2"),
    ({"transform": "dct"}, "prism.hadamard.transform must be "
                           "'normalized-sylvester-walsh-hadamard', not 'dct'"),
    ({"axis": None}, "prism.hadamard.axis must be 'input-last-dimension', not missing"),
    ({"block_size": 48}, "prism.hadamard.block_size must be a power of two, not 48"),
    ({"block_size": 256}, "blk.0.attn_q.weight, which is to be rotated, has 128 columns, no "
                          "multiple of the rotated block of 256"),
    ({"sign_mode": "random"}, "prism.hadamard.sign_mode must be 'identity' or 'explicit', not "
                              "'random'"),
    ({"sign_mode": "identity"}, "has signs, but prism.hadamard.sign_mode is 'identity'"),
    ({"sign_widths": [128]}, SIGNS_WRONG),
    ({"sign_widths": None}, SIGNS_WRONG),
    ({"sign_values": 2 * VALUES}, SIGNS_WRONG),
    ({"sign_values": VALUES[:128], "sign_widths": [128]},
     "blk.0.ffn_down.weight, which is to be rotated, has 256 columns, for which the rotation has "
     "no signs"),
    ({"weight_names": None}, "prism.hadamard.weight_names must be a list of tensors, not missing"),
    ({"weight_names": names("blk.9.attn_q.weight")}, "rotates blk.9.attn_q.weight, which it does "
                                                     "not have"),
    ({"weight_names": names("blk.0.attn_norm.weight")},
     "rotates blk.0.attn_norm.weight before a product, which is not supported"),
    ({"inverse_weight_names": names()}, "rotates blk.0.attn_q.weight back, which is not supported"),
    ({"gdn_v_grouped": 1}, "prism.hadamard.gdn_v_grouped must be true or false, not 1"),
    ({"tied_output": True}, "has prism.hadamard.tied_output, which is not known"),
])
def test_rotations_that_are_refused(tmp_path, change, fault):
    def edit(keys):
        keys |= change
        for key in [key for key, found in keys.items() if found is None]:
            del keys[key]

    rotated_model(tmp_path / "m.gguf", edit)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm.gguf'}: {fault}; use a model without a rotation")):
        open_source(tmp_path / "m.gguf")


def test_a_calibration_does_not_fit_a_rotation(tmp_path):
    rotated_model(tmp_path / "m.gguf")
    plain = method_of("search")
    method = Method(**{**vars(plain), "settings": {"calibration": {"sha256": ""}}})
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm.gguf'}: its matrices multiply rotated vectors, which a calibration "
            "does not measure; quantize it without one")):
        pack_checkpoint(tmp_path / "m.gguf", tmp_path / "p", 3, method=method)
