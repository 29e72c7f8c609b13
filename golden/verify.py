"""Checks of a packed checkpoint: every byte against its CRC-32, and against its source."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from golden.checkpoint import CheckpointError, PackedCheckpoint
from golden.chunks import row_chunks
from golden.fixed import check_table
from golden.quantize import quantize
from golden.report import table_warnings
from golden.shards import Tensor
from golden.sources import Source
from golden.tiles import pack, padding_is_zero, unpack
from golden.trit import is_canonical

__all__ = ["Finding", "check_sum", "verify"]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a tensor or a matrix (``error``), or worth knowing (``warning``)."""

    tensor:  str
    message: str
    kind:    str = "error"


def verify(
    path: str | Path, against: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Finding]:
    """Findings about a packed checkpoint, in file order; none when all is well.

    Checked are CRC-32s, second codes of trits, padding, scale tables. With ``against``, the source
    checkpoint, every matrix is quantized again and every kept tensor read again, and all bytes are
    compared. ``progress`` gets each name when it is done.

    Raises :class:`CheckpointError` for a checkpoint that cannot be opened at all: its files, its
    headers or its configuration are damaged.
    """
    packed = PackedCheckpoint(path)
    source = Source(against) if against is not None else None
    findings = _compare_names(packed, source) if source else []
    for name in packed.matrices:
        findings += _check_matrix(packed, name, source)
        if progress:
            progress(name)
    for name, tensor in packed.kept.items():
        findings += check_sum(tensor, packed.checksums[name])
        if source and name in source.tensors:
            findings += _compare_kept(tensor, source.tensors[name])
        if progress:
            progress(name)
    return findings


def _check_matrix(
    packed: PackedCheckpoint, name: str, source: Source | None,
) -> Iterator[Finding]:
    for tensor in packed.tensors_of(name):
        yield from check_sum(tensor, packed.checksums[tensor.name])
    info, tiles, table = packed.matrices[name], packed.tiles(name), packed.table(name)
    trits, scales = (tensor.name for tensor in packed.tensors_of(name))
    second = sum(int((~is_canonical(tiles[chunk])).sum())
                 for chunk in row_chunks(len(tiles), tiles[0].size))
    if second:
        yield Finding(trits, f"{second} bytes are the second code of their trits", kind="warning")
    if not padding_is_zero(tiles, info.depth, info.shape):
        yield Finding(trits, "the padding is not zero")
    try:
        check_table(table)
    except ValueError as error:
        yield Finding(scales, str(error))
    else:
        for line in table_warnings(unpack(tiles, info.depth, info.shape, table)):
            yield Finding(scales, line, kind="warning")
    if source and f"{name}.weight" in source.tensors:
        yield from _compare_matrix(packed, name, source.tensors[f"{name}.weight"])


def check_sum(tensor: Tensor, due: int) -> Iterator[Finding]:
    """What is wrong with the bytes of a tensor whose CRC-32 should be ``due``."""
    checksum = 0
    for piece in tensor.pieces():
        checksum = zlib.crc32(piece, checksum)
    if checksum != due:
        yield Finding(tensor.name, f"CRC-32 is {checksum:08x}, not {due:08x}: damaged in "
                                   f"{tensor.path.name}")


def _compare_names(packed: PackedCheckpoint, source: Source) -> list[Finding]:
    """Tensors that only one of the two has."""
    there = packed.kept.keys() | {f"{name}.weight" for name in packed.matrices}
    missing = [Finding(name, f"missing, but in {source.path}")
               for name in source.tensors if name not in there]
    return missing + [Finding(name, f"not in {source.path}")
                      for name in sorted(there - source.tensors.keys())]


def _compare_matrix(packed: PackedCheckpoint, name: str, origin: Tensor) -> Iterator[Finding]:
    info = packed.matrices[name]
    if origin.shape != info.shape:
        yield Finding(name, f"shape is {info.shape}, not {origin.shape}")
        return
    if origin.dtype not in ("BF16", "F16", "F32"):
        raise CheckpointError(f"{origin.path}: {origin.name} is {origin.dtype}, which is not "
                              "quantized; give the checkpoint that was packed")
    matrix = quantize(origin.read(), info.depth, origin.name)
    if matrix.table.tobytes() != packed.table(name).tobytes():
        yield Finding(name, "its scale table is not that of the source")
    wrong = np.argwhere((pack(matrix) != packed.tiles(name)).any(axis=-1))
    if len(wrong):
        tile, group = (int(place) for place in wrong[0])
        yield Finding(name, f"{len(wrong)} tiles are not those of the source, the first at row "
                            f"{5 * tile}, column {16 * group}")


def _compare_kept(tensor: Tensor, origin: Tensor) -> Iterator[Finding]:
    if (tensor.dtype, tensor.shape) != (origin.dtype, origin.shape):
        yield Finding(tensor.name, f"is {tensor.dtype} {tensor.shape}, not {origin.dtype} "
                                   f"{origin.shape}")
        return
    pieces = zip_longest(tensor.pieces(), origin.pieces())
    if any(mine != theirs for mine, theirs in pieces):
        yield Finding(tensor.name, "its bytes are not those of the source")
