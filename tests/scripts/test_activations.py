import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tritstream.golden.errors import CheckpointError
from tritstream.scripts.running.activations import read_activations

from support.golden_helpers import message

X = np.arange(6).reshape(2, 3)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int8])
def test_activations_of_any_dtype(tmp_path, dtype):
    save_file({"a": X.astype(dtype)}, tmp_path / "x")
    found = read_activations(tmp_path / "x", "a", 3)
    assert found.dtype == np.float32 and (found == X).all()


@pytest.mark.parametrize(("array", "fault"), [
    (np.ones((0, 3)), "activations of a must be (T, 3), not (0, 3)"),
    (np.ones(3), "activations of a must be (T, 3), not (3,)"),
    (np.ones((2, 4)), "activations of a must be (T, 3), not (2, 4)"),
    (np.full((2, 3), 1e300), "activations of a are not all finite in float32"),
    (np.full((2, 3), np.nan), "activations of a are not all finite in float32"),
])
def test_activations_that_do_not_do(tmp_path, array, fault):
    save_file({"a": array}, tmp_path / "x")
    with pytest.raises(ValueError, match=message(f"{tmp_path / 'x'}: {fault}")):
        read_activations(tmp_path / "x", "a", 3)


def test_a_module_that_is_not_there(tmp_path):
    save_file({"a": X}, tmp_path / "x")
    with pytest.raises(ValueError, match=message(f"{tmp_path / 'x'}: no activations for b")):
        read_activations(tmp_path / "x", "b", 3)


def test_a_damaged_file(tmp_path):
    (tmp_path / "x").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cut short within its header"):
        read_activations(tmp_path / "x", "a", 3)
