"""Calibration statistics ("moments") of the inputs and results of each matrix.

To second order, an error D (N, K) of a matrix costs ``1/2 sum_n r_n D_n F D_n^T`` nats of
Kullback-Leibler divergence per token. F (K, K) is the mean over tokens of ``g2 x x^T``. x is the
input, and g2 is the mean over the results of the squared derivative of the log-likelihood of a next
token drawn from the model. ``r_n`` is the share of result n in that derivative. This is the Fisher
information in the factors of K-FAC (Martens and Grosse, 2015), computed per token.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tritstream.golden.atomic_write import atomic_file
from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.checkpoints.safetensors_writer import Entry, array_entries, write_arrays
from tritstream.golden.errors import CheckpointError
from tritstream.golden.strict_json import parse_json

__all__ = ["BLOCK", "Moment", "Moments", "blocks", "digest_of", "fault_of_moments", "moment_arrays",
           "moment_entries", "moments_metadata", "write_moments"]

#: Columns per diagonal block of F. Values outside of the blocks are not stored, so that a matrix of
#: any width needs at most this number of values per column.
BLOCK = 2048

#: Key in ``__metadata__``.
_KEY = "tritstream_moments"
_INPUTS, _RESULTS = ".inputs", ".results"


@dataclass(frozen=True, eq=False)
class Moment:
    """Calibration statistics of one matrix (N, K).

    Members
    -------
    inputs : numpy.ndarray
        Rows of the diagonal blocks of F: float32 (K, b), b = min(K, 2048), zeros after the last
        column of a narrower block.
    results : numpy.ndarray
        Weights r of the results, with mean 1: float32 (N,).
    """

    inputs:  np.ndarray
    results: np.ndarray

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the columns of each diagonal block, and the block (b, b)."""
        for columns in blocks(len(self.inputs)):
            yield columns, self.inputs[columns, :columns.stop - columns.start]

    def take(self, rows: np.ndarray) -> "Moment":
        """Return the statistics of the matrix that has only these rows (indices)."""
        return Moment(self.inputs, self.results[rows])

    def loss(self, errors: np.ndarray) -> float:
        """Return the loss by errors (N, K), in nats per token."""
        total = 0.0
        for columns, block in self.blocks():
            chosen = errors[:, columns]
            total += float(np.einsum("nk,nk,n->", chosen @ block, chosen, self.results,
                                     dtype=np.float64))
        return total / 2


class Moments:
    """Calibration file, opened. Statistics are read from it when :meth:`of` is called.

    Raises :class:`CheckpointError` if the file is not a calibration file.

    Members
    -------
    made_of : dict
        Description of the calibration run, as :func:`write_moments` got it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._shard = Shard(self.path)
        if _KEY not in self._shard.metadata:
            raise CheckpointError(f"{self.path}: holds no moments; give a text, or what "
                                  "`tritstream calibrate` wrote")
        self.made_of: dict = self._read_made_of()

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return digest_of(self.path)

    def _read_made_of(self) -> dict:
        try:
            made_of = parse_json(self._shard.metadata[_KEY].encode())
        except ValueError:
            made_of = None
        if not isinstance(made_of, dict):
            raise CheckpointError(f"{self.path}: {_KEY} in its metadata cannot be read; calibrate "
                                  "again")
        return made_of

    def __contains__(self, name: str) -> bool:
        """Whether the file has statistics for a module."""
        return name + _INPUTS in self._shard.tensors

    def of(self, name: str, shape: tuple[int, int]) -> Moment:
        """Return the statistics of the matrix of a module.

        Raises :class:`CheckpointError` if the file has none, or has invalid values.
        """
        moment = Moment(*(self._read(name, entry) for entry in moment_entries(name, shape)))
        columns = np.arange(shape[1])
        least = min(moment.inputs[columns, columns % BLOCK].min(), moment.results.min())
        if not (least >= 0 and np.isfinite(moment.inputs).all()
                and np.isfinite(moment.results).all()):
            raise CheckpointError(f"{self.path}: moments of {name} are no means of squares; "
                                  "calibrate again with this model")
        return moment

    def _read(self, name: str, entry: Entry) -> np.ndarray:
        if not {name + _INPUTS, name + _RESULTS} <= self._shard.tensors.keys():
            raise CheckpointError(f"{self.path}: has no moments of {name}; calibrate again with "
                                  "this model")
        tensor = self._shard.tensors[entry.name]
        if (tensor.dtype, tensor.shape) != (entry.dtype, entry.shape):
            raise CheckpointError(f"{self.path}: {tensor.name} must be F32 {entry.shape}, not "
                                  f"{tensor.dtype} {tensor.shape}; calibrate again with this "
                                  "model")
        return tensor.read()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def blocks(columns: int) -> Iterator[slice]:
    """Yield the columns of each diagonal block of a matrix with ``columns`` columns."""
    for first in range(0, columns, BLOCK):
        yield slice(first, min(columns, first + BLOCK))


def write_moments(path: Path, moments: Mapping[str, Moment], made_of: Mapping) -> None:
    """Write a calibration file atomically.

    Parameters
    ----------
    path : Path
        Path of the file, which is replaced if it exists.
    moments : mapping
        Statistics by module name.
    made_of : mapping
        Description of the calibration run, as JSON values.

    Raises :class:`CheckpointError` for statistics that are not finite, and if the file cannot be
    written.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, moment in moments.items():
        arrays |= moment_arrays(path, name, moment)
    with atomic_file(path) as part:
        write_arrays(part, arrays, moments_metadata(made_of))


def moment_arrays(path: Path, name: str, moment: Moment) -> dict[str, np.ndarray]:
    """Return the arrays that a calibration file holds for one matrix, by their names in the file.

    Raises :class:`CheckpointError` for statistics that are not finite.
    """
    if not (np.isfinite(moment.inputs).all() and np.isfinite(moment.results).all()):
        raise CheckpointError(f"{path}: the moments of {name} are not finite; check the "
                              "weights of the model")
    return {name + _INPUTS: moment.inputs, name + _RESULTS: moment.results}


def moment_entries(name: str, shape: tuple[int, int]) -> list[Entry]:
    """Return the entries that a calibration file holds for a matrix (N, K)."""
    shapes = {name + _INPUTS: (shape[1], min(shape[1], BLOCK)), name + _RESULTS: (shape[0],)}
    return array_entries(shapes)


def moments_metadata(made_of: Mapping) -> dict[str, str]:
    """Return the metadata of a calibration file."""
    return {_KEY: json.dumps(made_of)}


def fault_of_moments(path: Path) -> str | None:
    """Return why a file is not a calibration file, or None."""
    try:
        Moments(path)
    except CheckpointError:
        return "is not a file of moments"
    return None
