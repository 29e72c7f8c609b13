"""Moments: what calibration found out about the inputs and results of each matrix.

To second order, an error D (N, K) of a matrix costs ``1/2 sum_n r_n D_n F D_n^T`` nats of
Kullback-Leibler divergence a token, where F (K, K) is the mean over tokens of ``g2 x x^T``, x being
the input, g2 the mean over the results of the squared derivative of the log-likelihood (of a next
token drawn from the model), and ``r_n`` the share of result n in that derivative: the Fisher
information in the factors of K-FAC (Martens and Grosse, 2015), token by token.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.checkpoints.safetensors_writer import write_arrays
from tritstream.golden.errors import CheckpointError
from tritstream.golden.strict_json import parse_json
from tritstream.golden.write_errors import writing

__all__ = ["BLOCK", "Moment", "Moments", "blocks", "fault_of_moments", "write_moments"]

#: Columns of a diagonal block of F: what lies outside of the blocks is left out, so that a matrix
#: of any width needs no more than so many values a column.
BLOCK = 2048

#: Key of ``__metadata__``.
_KEY = "tritstream_moments"
_INPUTS, _RESULTS = ".inputs", ".results"


@dataclass(frozen=True, eq=False)
class Moment:
    """Moments of one matrix (N, K).

    Members
    -------
    inputs : numpy.ndarray
        float32 (K, b): row k of the diagonal blocks of F, b columns at most, zeros behind the last.
    results : numpy.ndarray
        float32 (N,): r, of mean 1.
    """

    inputs:  np.ndarray
    results: np.ndarray

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Columns of each diagonal block, and the block (b, b)."""
        for columns in blocks(len(self.inputs)):
            yield columns, self.inputs[columns, :columns.stop - columns.start]

    def take(self, rows: np.ndarray) -> "Moment":
        """Moments of the matrix that has only these rows."""
        return Moment(self.inputs, self.results[rows])

    def loss(self, errors: np.ndarray) -> float:
        """Nats a token that errors (N, K) cost."""
        total = 0.0
        for columns, block in self.blocks():
            part = errors[:, columns]
            total += float(np.einsum("nk,nk,n->", part @ block, part, self.results,
                                     dtype=np.float64))
        return total / 2


class Moments:
    """A file of moments, opened; nothing but its header is read until asked.

    Raises :class:`CheckpointError` for a file that is none.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._shard = Shard(self.path)
        if _KEY not in self._shard.metadata:
            raise CheckpointError(f"{self.path}: holds no moments; give a text, or what "
                                  "`tritstream calibrate` wrote")
        #: What the moments were made of.
        self.made_of: dict = self._read_made_of()

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _read_made_of(self) -> dict:
        try:
            found = parse_json(self._shard.metadata[_KEY].encode())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise CheckpointError(f"{self.path}: {_KEY} in its metadata cannot be read; calibrate "
                                  "again")
        return found

    def __contains__(self, name: str) -> bool:
        """Whether the file has moments of a module."""
        return name + _INPUTS in self._shard.tensors

    def of(self, name: str, shape: tuple[int, int]) -> Moment:
        """Moments of the matrix of a module; raises :class:`CheckpointError` if they are not here.
        """
        found = [self._shard.tensors.get(name + end) for end in (_INPUTS, _RESULTS)]
        if None in found:
            raise CheckpointError(f"{self.path}: has no moments of {name}; calibrate again with "
                                  "this model")
        due = (shape[1], min(shape[1], BLOCK)), (shape[0],)
        for tensor, size in zip(found, due, strict=True):
            if (tensor.dtype, tensor.shape) != ("F32", size):
                raise CheckpointError(f"{self.path}: {tensor.name} must be F32 {size}, not "
                                      f"{tensor.dtype} {tensor.shape}; calibrate again with this "
                                      "model")
        moment = Moment(*(tensor.read() for tensor in found))
        places = np.arange(shape[1])
        least = min(moment.inputs[places, places % BLOCK].min(), moment.results.min())
        if not (least >= 0 and np.isfinite(moment.inputs).all()
                and np.isfinite(moment.results).all()):
            raise CheckpointError(f"{self.path}: moments of {name} are no means of squares; "
                                  "calibrate again with this model")
        return moment


def blocks(columns: int) -> Iterator[slice]:
    """Columns of the diagonal blocks of a matrix of so many."""
    for first in range(0, columns, BLOCK):
        yield slice(first, min(columns, first + BLOCK))


def write_moments(path: Path, moments: Mapping[str, Moment], made_of: Mapping) -> None:
    """Write moments by module name, whole or not at all.

    Raises :class:`CheckpointError` for moments that are not finite, and when the disk is full.
    """
    arrays = {}
    for name, moment in moments.items():
        if not (np.isfinite(moment.inputs).all() and np.isfinite(moment.results).all()):
            raise CheckpointError(f"{path}: the moments of {name} are not finite; check the "
                                  "weights of the model")
        arrays |= {name + _INPUTS: moment.inputs, name + _RESULTS: moment.results}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_arrays(partial, arrays, {_KEY: json.dumps(made_of)})
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def fault_of_moments(path: Path) -> str | None:
    """Return the fault of a file that is no file of moments, or None."""
    try:
        Moments(path)
    except CheckpointError:
        return "is not a file of moments"
    return None
