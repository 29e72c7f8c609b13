"""Checks of a packed checkpoint: every byte against its CRC-32, and against its source."""

import hashlib
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.casting import DTYPE_NAMES, cast_tensor
from tritstream.golden.checkpoints.choice import Architecture
from tritstream.golden.checkpoints.safetensors_reader import DTYPES, FLOATS, Tensor
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.fixed_point import check_table
from tritstream.golden.matrix import TritMatrix, row_dequantizer, whole
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.finite import FiniteCheck
from tritstream.golden.packed.metadata import CONVERTED, RECOVERED
from tritstream.golden.packed.reader import CheckpointError, MatrixInfo, PackedCheckpoint
from tritstream.golden.packed.report import table_warnings
from tritstream.golden.quantizers.registry import Method, method_of
from tritstream.golden.rounding import float_bits, magnitude_mask
from tritstream.golden.row_chunks import in_threads, row_chunks
from tritstream.golden.tiles import pack, padding_is_zero, unpack
from tritstream.golden.trit import is_canonical

__all__ = ["Finding", "check_sum", "verify"]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a tensor or a matrix (``error``), or worth knowing (``warning``)."""

    tensor:  str
    message: str
    kind:    str = "error"


def verify(
    path: str | Path, against: str | Path | None = None,
    progress: Callable[[str], None] | None = None, *, calibration: Path | None = None,
    architecture: Architecture | None = None,
) -> list[Finding]:
    """Findings about a packed checkpoint, in file order; none when all is well.

    Checked are CRC-32s, second codes of trits, padding, scale tables, and that kept tensors are
    finite. With ``against``, the source checkpoint, every matrix is quantized again and every kept
    tensor read again, and all bytes are compared; of a recovered matrix, every weight that it
    stands for, but not the signs of zeros.
    What was quantized with a calibration can only be so again with its file of moments,
    ``calibration``. With ``architecture``, the model that config.json describes, it is also checked
    that this model can be loaded. ``progress`` gets each name when it is done.

    Raises :class:`CheckpointError` for a checkpoint that cannot be opened at all: its files, its
    headers or its configuration are damaged; and for another calibration than its own.
    """
    packed = PackedCheckpoint(path)
    method = _method(packed, calibration) if against is not None else None
    source = open_source(against, tokenizer=False) if against is not None else None
    findings = list(_check_loading(packed, architecture)) if architecture else []
    findings += _compare_names(packed, source) if source else []
    for name in packed.matrices:
        findings += _check_matrix(packed, name, source, method)
        if progress:
            progress(name)
    for name, tensor in packed.kept.items():
        check = FiniteCheck(tensor.dtype, tensor.shape)
        findings += check_sum(tensor, packed.checksums[name], check)
        if check.fault:
            findings.append(Finding(name, check.fault, kind="warning"))
        if source and name in source.tensors:
            findings += _compare_kept(tensor, _as_kept(packed, tensor, source.tensors[name]))
        if progress:
            progress(name)
    return findings


def _check_loading(packed: PackedCheckpoint, architecture: Architecture) -> Iterator[Finding]:
    """Whether the model has all that it needs, and can run what is packed."""
    model = architecture.name
    for name in architecture.missing:
        yield Finding(name, f"{model} needs it, and it is missing or of another shape, so the "
                            "model cannot be loaded; pack the complete checkpoint")
    for name in packed.matrices.keys() - architecture.runnable:
        reason = architecture.reasons.get(name, f"not part of {model}")
        yield Finding(name, f"is packed, but cannot be loaded so ({reason}); pack the model again")
    unused = sorted(architecture.unknown & packed.kept.keys())
    if unused:
        yield Finding(unused[0], f"is not part of {model}, nor are {len(unused) - 1} other "
                                 "tensors; they are not loaded", kind="warning")


def _check_matrix(
    packed: PackedCheckpoint, name: str, source: Source | None, method: Method | None,
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
        return
    matrix = unpack(tiles, info.depth, info.shape, table, info.form)
    for line in table_warnings(name, matrix, packed.codec):
        yield Finding(scales, line, kind="warning")
    if source and f"{name}.weight" in source.tensors:
        origin = source.tensors[f"{name}.weight"]
        yield from (_compare_codes(info, matrix, origin, method) if method
                    else _compare_weights(info, matrix, origin))


def _method(packed: PackedCheckpoint, calibration: Path | None) -> Method | None:
    """What quantized a checkpoint; None when its codes were recovered."""
    if packed.codec == RECOVERED:
        return None
    made_with = packed.config["quantization_config"].get("calibration")
    if made_with and calibration is None:
        raise CheckpointError(f"{packed.path}: was quantized with a calibration by "
                              f"{made_with.get('text')}; give its file of moments")
    # The plain engine: a second opinion on what a fast one wrote.
    method = method_of(packed.codec, "numpy", calibration)
    if made_with and made_with["sha256"] != method.settings["calibration"]["sha256"]:
        raise CheckpointError(f"{calibration}: is not the calibration that {packed.path} was "
                              f"quantized with (SHA-256 {made_with['sha256'][:16]}...)")
    return method


def check_sum(
    tensor: Tensor, due: int, check: FiniteCheck | None = None,
) -> Iterator[Finding]:
    """What is wrong with the bytes of a tensor whose CRC-32 should be ``due``.

    ``check`` counts the values that are not finite in the same pass.
    """
    checksum = 0
    for piece in check.watch(tensor.pieces()) if check else tensor.pieces():
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


def _compare_codes(
    info: MatrixInfo, matrix: TritMatrix, origin: SourceTensor, method: Method,
) -> Iterator[Finding]:
    """Whether quantizing the source gives this matrix."""
    weights = yield from _read(info, origin)
    if weights is None:
        return
    due = whole(method.encode(weights, info.depth, origin.name))
    if due.table.tobytes() != matrix.table.tobytes():
        yield Finding(info.name, "its scale table is not that of the source")
    wrong = np.argwhere((pack(due) != pack(matrix)).any(axis=-1))
    if len(wrong):
        tile, group = (int(place) for place in wrong[0])
        yield Finding(info.name, f"{len(wrong)} tiles are not those of the source, the first at "
                                 f"row {5 * tile}, column {16 * group}")


def _compare_weights(
    info: MatrixInfo, matrix: TritMatrix, origin: SourceTensor,
) -> Iterator[Finding]:
    """Whether the matrix stands for the values of the source."""
    weights = yield from _read(info, origin)
    if weights is None:
        return
    if origin.dtype != info.dtype:
        yield Finding(info.name, f"stands for {info.dtype}, not {origin.dtype}")
        return
    made, bits = row_dequantizer(matrix, weights.dtype), float_bits(weights)
    mask = magnitude_mask(bits.dtype)

    def wrong(rows: slice) -> np.ndarray:
        mine, theirs = float_bits(made(rows)), bits[rows]
        places = np.argwhere(mine != theirs)
        real = (mine[tuple(places.T)] | theirs[tuple(places.T)]) & mask > 0
        return places[real] + [rows.start, 0]

    places = np.concatenate(list(in_threads(wrong, row_chunks(*matrix.q.shape))))
    if len(places):
        row, column = places[0]
        yield Finding(info.name, f"{len(places)} weights are not those of the source, the first "
                                 f"at row {row}, column {column}")


def _read(info: MatrixInfo, origin: SourceTensor) -> Generator[Finding, None, np.ndarray | None]:
    """Weights of the source, or a finding."""
    if origin.shape != info.shape:
        yield Finding(info.name, f"shape is {info.shape}, not {origin.shape}")
        return None
    if origin.dtype not in FLOATS:
        raise CheckpointError(f"{origin.path}: {origin.name} is {origin.dtype}, which is not "
                              "quantized; give the checkpoint that was packed")
    return origin.read()


def _as_kept(packed: PackedCheckpoint, tensor: Tensor, origin: SourceTensor) -> SourceTensor:
    """The source of a kept tensor, converted as the checkpoint says that it was."""
    converted = packed.config["quantization_config"].get(CONVERTED, {})
    known = tensor.dtype in DTYPE_NAMES.values() and origin.dtype in DTYPES
    if converted.get(tensor.name) != origin.dtype or not known:
        return origin
    return cast_tensor(origin, tensor.dtype)


def _compare_kept(tensor: Tensor, origin: SourceTensor) -> Iterator[Finding]:
    if (tensor.dtype, tensor.shape) != (origin.dtype, origin.shape):
        yield Finding(tensor.name, f"is {tensor.dtype} {tensor.shape}, not {origin.dtype} "
                                   f"{origin.shape}")
        return
    try:
        same = _digest(tensor) == _digest(origin)
    except CheckpointError as error:
        # It is beyond the dtype that it was converted to, or cannot be read.
        yield Finding(tensor.name, f"cannot be compared: {error}")
        return
    if not same:
        yield Finding(tensor.name, "its bytes are not those of the source")


def _digest(tensor: SourceTensor) -> bytes:
    whole = hashlib.sha256()
    for piece in tensor.pieces():
        whole.update(piece)
    return whole.digest()
