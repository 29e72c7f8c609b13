"""Comparison of a packed checkpoint with its source: names, codes, weights, unquantized tensors."""

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from tritstream.golden.checkpoints.cast_tensor import DTYPE_NAMES, cast_tensor
from tritstream.golden.checkpoints.safetensors_reader import DTYPES, FLOATS, Tensor
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import GROUP, ROWS
from tritstream.golden.matrix import DirectMatrix, TritMatrix, row_dequantizer, whole
from tritstream.golden.packed.metadata import CONVERTED
from tritstream.golden.packed.reader import MatrixInfo, PackedCheckpoint
from tritstream.golden.quantizers.registry import Method
from tritstream.golden.rounding import float_bits, magnitude_mask
from tritstream.golden.row_chunks import in_threads, row_chunks

__all__ = ["Finding", "compare_codes", "compare_kept", "compare_names", "compare_weights"]


@dataclass(frozen=True)
class Finding:
    """Fault of a tensor or a matrix (kind ``error``), or remark about it (kind ``warning``)."""

    tensor:  str
    message: str
    kind:    str = "error"


def compare_names(packed: PackedCheckpoint, source: Source) -> list[Finding]:
    """Return findings about tensors that only the packed or only the source checkpoint has."""
    present = packed.kept.keys() | {f"{name}.weight" for name in packed.matrices}
    missing = [Finding(name, f"missing, but in {source.path}")
               for name in source.tensors if name not in present]
    return missing + [Finding(name, f"not in {source.path}")
                      for name in sorted(present - source.tensors.keys())]


def compare_codes(
    info: MatrixInfo, matrix: TritMatrix | DirectMatrix, origin: SourceTensor, method: Method,
) -> Iterator[Finding]:
    """Compare a matrix with the result of quantizing the source again."""
    if (weights := (yield from _read(info, origin))) is None:
        return
    expected = whole(method.encode(weights, info.depth, origin.name))
    if type(matrix) is not type(expected) or matrix.group != expected.group:
        yield Finding(info.name, "has groups and scales that its method does not make")
        return
    if isinstance(matrix, TritMatrix) and isinstance(expected, TritMatrix) and (
            expected.table.tobytes() != matrix.table.tobytes()):
        yield Finding(info.name, "its scale table is not that of the source")
    yield from _compare_groups(info, matrix, expected)


def _compare_groups(
    info: MatrixInfo, matrix: TritMatrix | DirectMatrix, expected: TritMatrix | DirectMatrix,
) -> Iterator[Finding]:
    """Compare integers and scales, of five rows and one group each."""
    wrong = _stored_scales(matrix) != _stored_scales(expected)
    units = (matrix.q != expected.q).reshape(matrix.rows, -1, GROUP).any(axis=-1)
    starts = np.arange(0, units.shape[1], matrix.group // GROUP)
    wrong |= np.logical_or.reduceat(units, starts, axis=1)
    tiles = np.argwhere(np.logical_or.reduceat(wrong, np.arange(0, matrix.rows, ROWS)))
    if len(tiles):
        tile, group = (int(index) for index in tiles[0])
        yield Finding(info.name, f"{len(tiles)} tiles are not those of the source, the first at "
                                 f"row {ROWS * tile}, column {matrix.group * group}")


def _stored_scales(matrix: TritMatrix | DirectMatrix) -> np.ndarray:
    """Return codes, or the bits of direct scales: (N, C)."""
    return (matrix.codes if isinstance(matrix, TritMatrix) else
            np.broadcast_to(float_bits(matrix.scales.stored), (matrix.rows, matrix.groups)))


def compare_weights(
    info: MatrixInfo, matrix: TritMatrix | DirectMatrix, origin: SourceTensor,
) -> Iterator[Finding]:
    """Compare the weights of an imported matrix with the source."""
    if (weights := (yield from _read(info, origin))) is None:
        return
    if origin.dtype != info.dtype:
        yield Finding(info.name, f"has weights of dtype {info.dtype}, not {origin.dtype}")
        return
    dequantize_rows, bits = row_dequantizer(matrix, weights.dtype), float_bits(weights)
    mask = magnitude_mask(bits.dtype)

    def wrong(rows: slice) -> np.ndarray:
        mine, theirs = float_bits(dequantize_rows(rows)), bits[rows]
        indices = np.argwhere(mine != theirs)
        not_zeros = (mine[tuple(indices.T)] | theirs[tuple(indices.T)]) & mask > 0
        return indices[not_zeros] + [rows.start, 0]

    indices = np.concatenate(list(in_threads(wrong, row_chunks(*matrix.q.shape))))
    if len(indices):
        row, column = indices[0]
        yield Finding(info.name, f"{len(indices)} weights are not those of the source, the first "
                                 f"at row {row}, column {column}")


def _read(info: MatrixInfo, origin: SourceTensor) -> Generator[Finding, None, np.ndarray | None]:
    """Return the weights of the source; yield a finding and return None if shapes differ."""
    if origin.shape != info.shape:
        yield Finding(info.name, f"shape is {info.shape}, not {origin.shape}")
        return None
    if origin.dtype not in FLOATS:
        raise CheckpointError(f"{origin.path}: {origin.name} is {origin.dtype}, which is not "
                              "quantized; give the checkpoint that was packed")
    return origin.read()


def _as_kept(packed: PackedCheckpoint, tensor: Tensor, origin: SourceTensor) -> SourceTensor:
    """Return the source of an unquantized tensor, converted as config.json records."""
    converted = packed.config["quantization_config"].get(CONVERTED, {})
    known = tensor.dtype in DTYPE_NAMES.values() and origin.dtype in DTYPES
    if converted.get(tensor.name) != origin.dtype or not known:
        return origin
    return cast_tensor(origin, tensor.dtype)


def compare_kept(
    packed: PackedCheckpoint, tensor: Tensor, origin: SourceTensor,
) -> Iterator[Finding]:
    """Compare an unquantized tensor with its source, byte by byte."""
    origin = _as_kept(packed, tensor, origin)
    if (tensor.dtype, tensor.shape) != (origin.dtype, origin.shape):
        yield Finding(tensor.name, f"is {tensor.dtype} {tensor.shape}, not {origin.dtype} "
                                   f"{origin.shape}")
        return
    try:
        same = _digest(tensor) == _digest(origin)
    except CheckpointError as error:
        # A value is out of range of the dtype after conversion, or the tensor cannot be read.
        yield Finding(tensor.name, f"cannot be compared: {error}")
        return
    if not same:
        yield Finding(tensor.name, "its bytes are not those of the source")


def _digest(tensor: SourceTensor) -> bytes:
    digest = hashlib.sha256()
    for piece in tensor.pieces():
        digest.update(piece)
    return digest.digest()
