"""Reconstruction files: integers, codes and tables of matrices that were tuned together."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.checkpoints.safetensors_writer import Entry
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import GROUP, SCALES, group_count
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.strict_json import parse_json

__all__ = ["Reconstruction", "fault_of_reconstruction", "is_reconstruction", "matrix_arrays",
           "matrix_entries", "reconstruction_metadata"]

#: Key in ``__metadata__``, and fields of its value.
_KEY = "tritstream_reconstruction"
_MADE_OF, _DEPTHS = "made_of", "depths"
_INTEGERS, _CODES, _TABLE = ".integers", ".codes", ".table"


class Reconstruction:
    """Reconstruction file, opened. A matrix is read when :meth:`of` is called.

    Raises :class:`CheckpointError` if the file is not a reconstruction file.

    Members
    -------
    path : Path
        The file.
    made_of : dict
        Description of the reconstruction.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._shard = Shard(self.path)
        try:
            fields = parse_json(self._shard.metadata[_KEY].encode())
            self.made_of: dict = dict(fields[_MADE_OF])
            self._depths: dict = dict(fields[_DEPTHS])
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{self.path}: holds no reconstruction; give what `tritstream "
                                  "reconstruct` wrote") from None

    def of(self, name: str, shape: tuple[int, ...], depth: int) -> TritMatrix:
        """Return the matrix of a module.

        Raises :class:`CheckpointError` if the file has none of this shape and depth, or invalid
        values.
        """
        if name not in self._depths:
            raise CheckpointError(f"{self.path}: has no matrix {name}; reconstruct again with this "
                                  "model, or exclude it")
        if self._depths[name] != depth:
            raise CheckpointError(f"{self.path}: {name} was reconstructed at d = "
                                  f"{self._depths[name]}, not {depth}; reconstruct again, or give "
                                  "the same depths")
        try:
            q, codes, table = (self._shard.tensors[name + part].read()
                               for part in (_INTEGERS, _CODES, _TABLE))
            return TritMatrix(depth, (shape[0], shape[1]), q, codes, table)
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{self.path}: {name} is no matrix {shape} ({error}); "
                                  "reconstruct again with this model") from None


def is_reconstruction(path: Path) -> bool:
    """Return whether a safetensors file is a reconstruction file."""
    return _KEY in Shard(path).metadata


def fault_of_reconstruction(path: Path) -> str | None:
    """Return why a file is not a reconstruction file, or None."""
    try:
        Reconstruction(path)
    except CheckpointError:
        return "is not a file of a reconstruction"
    return None


def matrix_entries(name: str, shape: tuple[int, int]) -> list[Entry]:
    """Return the entries of a matrix (N, K) in a reconstruction file."""
    rows, groups = shape[0], group_count(shape[1])
    return [Entry(name + _INTEGERS, "I8", (rows, GROUP * groups), rows * GROUP * groups),
            Entry(name + _CODES, "U8", (rows, groups), rows * groups),
            Entry(name + _TABLE, "F32", (SCALES,), 4 * SCALES)]


def matrix_arrays(name: str, matrix: TritMatrix) -> dict[str, np.ndarray]:
    """Return the arrays of a matrix in a reconstruction file, by their names in the file."""
    return {name + _INTEGERS: matrix.q, name + _CODES: matrix.codes, name + _TABLE: matrix.table}


def reconstruction_metadata(made_of: Mapping, depths: Mapping[str, int]) -> dict[str, str]:
    """Return the metadata of a reconstruction file, with the depth of each matrix."""
    return {_KEY: json.dumps({_MADE_OF: made_of, _DEPTHS: depths})}
