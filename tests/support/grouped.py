"""Packed checkpoints whose matrices have groups of any length and scales of any kind."""

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.matrix import DirectMatrix
from tritstream.golden.packed.layout import CODED, DIRECT, INVERSE, Layout
from tritstream.golden.packed.metadata import RECOVERED, marks_of
from tritstream.golden.packed.pack import write_packed
from tritstream.golden.packed.plan import Plan

from support.golden_helpers import write_json

__all__ = ["layout_of", "write_grouped"]

_NAMES = {np.dtype(np.float16): "F16", np.dtype(ml_dtypes.bfloat16): "BF16",
          np.dtype(np.float32): "F32"}


def layout_of(matrix):
    """The layout of version 5 that a matrix has."""
    if not isinstance(matrix, DirectMatrix):
        return Layout(matrix.group, CODED)
    stored = matrix.scales.stored
    return Layout(matrix.group, INVERSE if matrix.scales.inverse else DIRECT, _NAMES[stored.dtype],
                  stored.shape == (1, 1))


def write_grouped(path, out, matrices, layouts=None, config=(), more=()):
    """Write a packed checkpoint of matrices by module name, and its float source at ``path``."""
    path.mkdir()
    tensors = {f"{name}.weight": np.zeros(matrix.shape, np.float32)
               for name, matrix in matrices.items()} | dict(more)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    write_json(path / "config.json", {"model_type": "some", **dict(config)})
    source = DirectorySource(path)
    layouts = layouts or {name: layout_of(matrix) for name, matrix in matrices.items()}
    chosen = {name: source.tensors[f"{name}.weight"] for name in matrices}
    plan = Plan(source, chosen, 1, kept=[], codec=RECOVERED, layouts=layouts,
                depths={name: matrix.depth for name, matrix in matrices.items()},
                marks={name: marks_of(matrix.form, "F32") for name, matrix in matrices.items()})
    with Job(out, {"job": "test"}) as job:
        reports = write_packed(job, plan, _Encoder(matrices))
        job.finish()
    return reports


class _Encoder:
    def __init__(self, matrices):
        self._matrices = matrices

    def encode(self, module, tensor):
        return self._matrices[module], None

    def memory(self, tensor):
        return 0
