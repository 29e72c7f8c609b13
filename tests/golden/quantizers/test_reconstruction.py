"""Reconstruction files: what is written is read, and other matrices are refused."""

import json

import numpy as np
import pytest

from tritstream.golden.checkpoints.safetensors_writer import ShardWriter, write_arrays
from tritstream.golden.errors import CheckpointError
from tritstream.golden.quantize import quantize
from tritstream.golden.quantizers.moments import write_moments
from tritstream.golden.quantizers.reconstruction import (
    Reconstruction,
    fault_of_reconstruction,
    is_reconstruction,
    matrix_arrays,
    matrix_entries,
    reconstruction_metadata,
)
from tritstream.golden.quantizers.registry import method_of

from support.golden_helpers import message

SHAPE = (5, 37)


@pytest.fixture
def weights():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def written(tmp_path, weights):
    """A matrix at d = 2, and its file."""
    matrix, path = quantize(weights, 2), tmp_path / "r.safetensors"
    writer = ShardWriter(path, matrix_entries("layers.0.q", SHAPE), lambda _: (
        reconstruction_metadata({"text": "a.txt"}, {"layers.0.q": 2, "lost": 2})))
    writer.allocate()
    writer.finish({name: writer.write(name, [np.ascontiguousarray(values)])
                   for name, values in matrix_arrays("layers.0.q", matrix).items()})
    return matrix, path


def test_a_method_takes_the_matrices_of_the_file(written, weights):
    matrix, path = written
    method = method_of("search", calibration=path)
    assert method.settings["calibration"]["text"] == "a.txt"
    assert method.moments is None
    found = method.encode(weights, 2, "layers.0.q.weight")
    for part in ("q", "codes", "table"):
        assert (getattr(found, part) == getattr(matrix, part)).all()


@pytest.mark.parametrize(("name", "shape", "depth", "fault"), [
    ("layers.1.q", SHAPE, 2, "has no matrix layers.1.q; reconstruct again with this model, or "
                             "exclude it"),
    ("layers.0.q", SHAPE, 3, "layers.0.q was reconstructed at d = 2, not 3; reconstruct again, or "
                             "give the same depths"),
    ("layers.0.q", (6, 37), 2, "layers.0.q is no matrix (6, 37) (q must be int8 (6, 48), not int8 "
                               "(5, 48)); reconstruct again with this model"),
    ("lost", SHAPE, 2, "lost is no matrix (5, 37) ('lost.integers'); reconstruct again with this "
                       "model"),
])
def test_other_matrices_are_refused(written, name, shape, depth, fault):
    _, path = written
    with pytest.raises(CheckpointError, match=message(f"{path}: {fault}")):
        Reconstruction(path).of(name, shape, depth)


@pytest.mark.parametrize("metadata", [{}, {"tritstream_reconstruction": "[]"},
                                      {"tritstream_reconstruction": json.dumps({"depths": 3})}])
def test_files_that_hold_no_reconstruction(tmp_path, metadata):
    path = tmp_path / "r.safetensors"
    write_arrays(path, {"a": np.zeros(3, np.float32)}, metadata)
    with pytest.raises(CheckpointError, match=message(
            f"{path}: holds no reconstruction; give what `tritstream reconstruct` wrote")):
        Reconstruction(path)
    assert fault_of_reconstruction(path) == "is not a file of a reconstruction"


def test_a_calibration_is_no_reconstruction(tmp_path, written):
    write_moments(tmp_path / "m.safetensors", {}, {})
    assert not is_reconstruction(tmp_path / "m.safetensors")
    assert is_reconstruction(written[1])
