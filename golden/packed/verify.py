"""Verification of a packed checkpoint: CRC-32 of every byte, and comparison with its source."""

import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.changed_source import SlicedSource
from tritstream.golden.checkpoints.choice import Architecture
from tritstream.golden.checkpoints.safetensors_reader import Tensor
from tritstream.golden.checkpoints.slices import stack_of
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.unrotated import unrotated
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import ROWS, check_table
from tritstream.golden.gguf.i2s_order import I2S_ORDER, I2S_ORDERS
from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.comparison import (
    Finding,
    compare_codes,
    compare_kept,
    compare_names,
    compare_weights,
)
from tritstream.golden.packed.finite import FiniteCheck
from tritstream.golden.packed.matrix_warnings import exactness_warnings, table_warnings
from tritstream.golden.packed.metadata import RECOVERED, damaged, grouping_of
from tritstream.golden.packed.reader import MatrixInfo, PackedCheckpoint
from tritstream.golden.quantizers.registry import Method, method_of
from tritstream.golden.row_chunks import row_chunks
from tritstream.golden.tiles import (
    padding_is_zero,
    trits_padding_is_zero,
    unpack,
    unpack_codes,
)
from tritstream.golden.trit import is_canonical

__all__ = ["Finding", "check", "check_sum", "require_intact", "verify"]


def verify(
    path: str | Path, against: str | Path | None = None,
    progress: Callable[[str], None] | None = None, *, calibration: Path | None = None,
    architecture: Architecture | None = None,
) -> list[Finding]:
    """Check a packed checkpoint, and return the findings in file order.

    Checks CRC-32s, non-canonical codes of trits, padding, scale tables, and that unquantized
    tensors are finite.

    Parameters
    ----------
    path : path
        Packed checkpoint.
    against : path
        Source checkpoint to compare with. Every matrix is quantized again, and all bytes of
        matrices and unquantized tensors are compared. For an imported matrix, all weights are
        compared instead, except the signs of zeros.
    progress : callable
        Called with the name of each matrix and of each unquantized tensor after its check.
    calibration : path
        Calibration statistics, required with ``against`` if the checkpoint was made with them.
    architecture : Architecture
        Architecture that config.json describes, to check that the model can be loaded.

    Raises :class:`CheckpointError` if headers or config.json are damaged, so that the checkpoint
    cannot be opened, and if ``calibration`` is missing or is another calibration.
    """
    packed = PackedCheckpoint(path)
    findings = list(_check_loading(packed, architecture)) if architecture else []
    if against is None:
        return findings + check(packed, progress=progress)
    method = _method(packed, calibration)
    order = packed.config["quantization_config"].get(I2S_ORDER, I2S_ORDERS[0])
    source = open_source(against, tokenizer=False, i2s_order=order)
    return findings + check(packed, source, method, progress)


def check(
    packed: PackedCheckpoint, source: Source | None = None, method: Method | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Finding]:
    """Check the tensors of a packed checkpoint, and compare them with its source if one is given.

    Without ``method``, matrices are compared value by value. See :func:`verify` for the rest.
    """
    source = _sliced(packed, source) if source else None
    findings = compare_names(packed, source) if source else []
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
            findings += compare_kept(packed, tensor, source.tensors[name])
        if progress:
            progress(name)
    return findings


def _check_loading(packed: PackedCheckpoint, architecture: Architecture) -> Iterator[Finding]:
    """Check that the checkpoint has all tensors of the model, and that packed matrices can run."""
    model = architecture.name
    for name in architecture.missing:
        yield Finding(name, f"{model} needs it, and it is missing or of another shape, so the "
                            "model cannot be loaded; pack the complete checkpoint")
    for name, reason in sorted(_not_runnable(packed, architecture)):
        yield Finding(name, f"is packed, but cannot be loaded so ({reason}); pack the model again")
    unused = sorted(architecture.unknown & packed.kept.keys())
    if unused:
        yield Finding(unused[0], f"is not part of {model}, nor are {len(unused) - 1} other "
                                 "tensors; they are not loaded", kind="warning")


def _not_runnable(
    packed: PackedCheckpoint, architecture: Architecture,
) -> Iterator[tuple[str, str]]:
    """Yield packed matrices that the model cannot run, with the reason."""
    merged = architecture.merged
    partial = {place for name, place in merged.items() if name not in packed.matrices}
    for name, info in packed.matrices.items():
        if name not in architecture.runnable:
            yield name, architecture.reasons.get(name, f"not part of {architecture.name}")
        elif merged.get(name) in partial:
            yield name, f"not all matrices of {merged[name]} are packed"
        elif info.axes != architecture.axes.get(info.origin):
            yield name, f"axes {info.axes} in place of {architecture.axes.get(info.origin)}"


def _sliced(packed: PackedCheckpoint, source: Source) -> Source:
    """Return the source with the slices of its tensors as the packed checkpoint has them."""
    source = unrotated(source, packed.matrices)
    stacks = {name: stack_of(source.tensors[name], infos[0].axes)
              for name, infos in packed.origins.items()
              if infos[0].axes and name in source.tensors}
    return SlicedSource(source, {name: stack for name, stack in stacks.items() if stack})


def _check_matrix(
    packed: PackedCheckpoint, name: str, source: Source | None, method: Method | None,
) -> Iterator[Finding]:
    for tensor in packed.tensors_of(name):
        yield from check_sum(tensor, packed.checksums[tensor.name])
    info = packed.matrices[name]
    matrix = yield from (_check_apart(packed, info) if info.layout.kind
                         else _check_tiles(packed, info))
    if matrix and source and f"{name}.weight" in source.tensors:
        origin = source.tensors[f"{name}.weight"]
        yield from (compare_codes(info, matrix, origin, method) if method
                    else compare_weights(info, matrix, origin))


def _check_tiles(
    packed: PackedCheckpoint, info: MatrixInfo,
) -> Generator[Finding, None, TritMatrix | None]:
    """Check tiles and table, and return the matrix, or None if the table is damaged."""
    tiles, table = packed.tiles(info.name), packed.table(info.name)
    trits, scales = (tensor.name for tensor in packed.tensors_of(info.name))
    yield from _check_bytes(trits, tiles)
    if not padding_is_zero(tiles, info.depth, info.shape):
        yield Finding(trits, "the padding is not zero")
    try:
        check_table(table)
    except ValueError as error:
        yield Finding(scales, str(error))
        return None
    matrix = unpack(tiles, info.depth, info.shape, table, info.form)
    for line in table_warnings(info.name, matrix, packed.codec):
        yield Finding(scales, line, kind="warning")
    return matrix


def _check_apart(
    packed: PackedCheckpoint, info: MatrixInfo,
) -> Generator[Finding, None, TritMatrix | DirectMatrix | None]:
    """Check trits, scales and codes that are stored apart; return what :func:`_check_tiles` does.
    """
    trits, scales, *codes = packed.tensors_of(info.name)
    stored = trits.read()
    yield from _check_bytes(trits.name, stored)
    if not trits_padding_is_zero(stored, info.depth, info.shape):
        yield Finding(trits.name, "the padding is not zero")
    for tensor in codes:
        digits = tensor.read()
        yield from _check_bytes(tensor.name, digits)
        if unpack_codes(digits, ROWS * len(digits))[info.shape[0]:].any():
            yield Finding(tensor.name, "the padding is not zero")
    try:
        matrix = packed.matrix(info.name)
    except CheckpointError as error:
        yield Finding(scales.name, str(error))
        return None
    lines = (table_warnings(info.name, matrix, packed.codec) if isinstance(matrix, TritMatrix)
             else exactness_warnings(matrix.scales))
    for line in lines:
        yield Finding(scales.name, line, kind="warning")
    return matrix


def _check_bytes(name: str, stored: np.ndarray) -> Iterator[Finding]:
    second = sum(int((~is_canonical(stored[chunk])).sum())
                 for chunk in row_chunks(len(stored), stored[0].size))
    if second:
        yield Finding(name, f"{second} bytes are the second code of their trits", kind="warning")


def _method(packed: PackedCheckpoint, calibration: Path | None) -> Method | None:
    """Return the method that quantized a checkpoint, None for an imported checkpoint."""
    if packed.codec == RECOVERED:
        return None
    fields = packed.config["quantization_config"]
    made_with = fields.get("calibration")
    if made_with and calibration is None:
        raise CheckpointError(f"{packed.path}: was quantized with a calibration by "
                              f"{made_with.get('text')}; give its file of moments")
    # The numpy engine, as an independent check of a faster engine's output.
    method = method_of(packed.codec, "numpy", calibration, grouping_of(fields))
    given = method.settings.get("calibration")
    if made_with and not (isinstance(given, dict) and given["sha256"] == made_with["sha256"]):
        raise CheckpointError(f"{calibration}: is not the calibration that {packed.path} was "
                              f"quantized with (SHA-256 {made_with['sha256'][:16]}...)")
    return method


def check_sum(
    tensor: Tensor, expected: int, check: FiniteCheck | None = None,
) -> Iterator[Finding]:
    """Yield a finding if the CRC-32 of a tensor is not ``expected``.

    ``check`` counts non-finite values in the same pass.
    """
    checksum = 0
    for piece in check.watch(tensor.pieces()) if check else tensor.pieces():
        checksum = zlib.crc32(piece, checksum)
    if checksum != expected:
        yield Finding(tensor.name, f"CRC-32 is {checksum:08x}, not {expected:08x}: damaged in "
                                   f"{tensor.path.name}")


def require_intact(packed: PackedCheckpoint, tensors: Iterable[Tensor]) -> None:
    """Raise :class:`CheckpointError` if bytes of a tensor do not have their CRC-32."""
    for tensor in tensors:
        for finding in check_sum(tensor, packed.checksums[tensor.name]):
            raise damaged(tensor.path, f"{tensor.name}: {finding.message}")
