import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tritstream.golden.errors import CheckpointError
from tritstream.scripts.evaluation.store import Scores

from support.golden_helpers import message


@pytest.fixture
def scores(tmp_path):
    """Two chunks of scores, the second's arrays views."""
    kept = Scores(tmp_path, {"model": "x"})
    kept.write(0, {"nll": np.arange(3.0), "same": np.array([True, False, True])})
    kept.write(1, {"nll": np.arange(8.0)[::2], "same": np.zeros(6, bool)[::2]})
    return kept


def test_scores_come_back(scores):
    found = scores.read(2)
    assert found["nll"].tolist() == [0, 1, 2, 0, 2, 4, 6]
    assert found["same"].tolist() == [True, False, True, False, False, False]


def damaged(scores, chunk):
    path = scores.path / f"{chunk:05}.safetensors"
    with pytest.raises(CheckpointError, match=message(
            f"{path}: damaged; remove it and run the same command again")):
        scores.read(2)


@pytest.mark.parametrize("place", [3, 20, -1, -30])
def test_a_changed_byte(scores, place):
    path = scores.path / "00001.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    damaged(scores, 1)


def test_other_scores(scores):
    scores.write(1, {"nll": np.arange(3.0)})
    damaged(scores, 1)


def test_another_shape(scores):
    path = scores.path / "00001.safetensors"
    tensors = load_file(path)
    with safe_open(path, "numpy") as file:
        save_file({**tensors, "nll": tensors["nll"].reshape(2, 2)}, path, file.metadata())
    damaged(scores, 1)


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1], lambda data: b"", lambda data: b"x" * 99])
def test_damaged_scores_are_made_again(scores, damage):
    path = scores.path / "00001.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert scores.has(0) and not scores.has(1)
    scores.write(1, {"nll": np.arange(4.0), "same": np.zeros(4, bool)})
    assert scores.has(1)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_damaged_figures_are_computed_again(scores, text):
    assert scores.once("error", lambda: {"x": 1}) == {"x": 1}
    (scores.path / "error.json").write_text(text)
    assert scores.once("error", lambda: {"x": 2}) == {"x": 2}
    assert scores.once("error", lambda: {"x": 3}) == {"x": 2}
