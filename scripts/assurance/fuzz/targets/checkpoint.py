"""Packed checkpoints: what is read must be equal to the contents of the files."""

import json
from pathlib import Path
from random import Random

import numpy as np
from safetensors import safe_open

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.golden.packed.export import export
from tritstream.golden.packed.reader import MatrixInfo, PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.scripts.assurance.fuzz.bundle import joined, parted, written
from tritstream.scripts.assurance.fuzz.models import NAMES, packed_seeds
from tritstream.scripts.assurance.fuzz.mutation import changed_bytes, changed_json
from tritstream.scripts.assurance.fuzz.safetensors_file import changed_safetensors
from tritstream.scripts.assurance.fuzz.target import Broken, Target

__all__ = ["TARGET", "changed_checkpoint"]


def changed_checkpoint(data: bytes, rng: Random) -> bytes:
    """Return a checkpoint with one file changed according to its format, or removed."""
    files = parted(data)
    if not files or rng.random() < 0.05:
        return changed_bytes(data, rng)
    number = rng.choice(sorted(files))
    name = NAMES[number] if number < len(NAMES) else ""
    if rng.random() < 0.02:
        del files[number]
    elif name.endswith(".safetensors"):
        files[number] = changed_safetensors(files[number], rng)
    elif rng.random() < 0.9:
        files[number] = _changed_text(files[number], rng)
    else:
        files[number] = changed_bytes(files[number], rng)
    return joined(files)


def _changed_text(text: bytes, rng: Random) -> bytes:
    try:
        return changed_json(json.loads(text), rng, rng.choice((1, 1, 2)))
    except (ValueError, RecursionError):
        return changed_bytes(text, rng)


def _run(data: bytes, folder: Path) -> None:
    path = written(data, folder / "model", NAMES)
    packed = PackedCheckpoint(path)
    if any(finding.kind == "error" for finding in verify(path)):
        return
    for shard in packed.shards:
        _compare_tensors(packed, path / shard)
    for name in packed.matrices:
        _compare_matrix(packed, name)
    export(path, folder / "out")


def _compare_tensors(packed: PackedCheckpoint, path: Path) -> None:
    """Check that the safetensors library reads the same bytes."""
    tensors = packed.shards[path.name].tensors
    # The library does not open dtypes that we only copy, and numpy has no name for F8 dtypes.
    if any(tensor.dtype not in DTYPES or tensor.dtype.startswith("F8")
           for tensor in tensors.values()):
        return
    with safe_open(path, "numpy") as file:
        for name, tensor in tensors.items():
            theirs = file.get_tensor(name)
            if (theirs.shape, theirs.tobytes()) != (tensor.shape, b"".join(tensor.pieces())):
                raise Broken(f"safetensors reads something else in {path.name}")


def _compare_matrix(packed: PackedCheckpoint, name: str) -> None:
    """Check integers and codes against the bytes of the tiles, digit by digit."""
    info, matrix = packed.matrices[name], packed.matrix(name)
    if not isinstance(matrix, TritMatrix) or info.layout.kind:
        _compare_apart(packed, info, matrix)
        return
    tiles = packed.tiles(name)
    digits = _DIGITS[tiles]                             # (row tile, group, byte, row)
    weights = digits[:, :, :16 * info.depth].reshape(*tiles.shape[:2], 16, info.depth, 5)
    q = np.einsum("tgjir,i->trgj", np.array([0, 1, -1])[weights], 3 ** np.arange(info.depth))
    codes = np.einsum("tgir,i->trg", digits[:, :, 16 * info.depth:], 3 ** np.arange(3))
    rows, columns = info.shape
    if (q.reshape(-1, 16 * tiles.shape[1])[:rows, :columns] != matrix.q[:, :columns]).any():
        raise Broken("integers that differ from the tiles")
    if (codes.reshape(-1, tiles.shape[1])[:rows] != matrix.codes).any():
        raise Broken("codes that differ from the tiles")


def _compare_apart(
    packed: PackedCheckpoint, info: MatrixInfo, matrix: TritMatrix | DirectMatrix,
) -> None:
    """Check integers, codes and scales that are stored apart."""
    trits, scales, *codes = (tensor.read() for tensor in packed.tensors_of(info.name))
    digits = np.array([0, 1, -1])[_DIGITS[trits]].reshape(len(trits), -1, info.depth, 5)
    q = np.einsum("tjir,i->trj", digits, 3 ** np.arange(info.depth)).reshape(-1, digits.shape[1])
    rows, columns = info.shape
    if (q[:rows, :columns] != matrix.q[:, :columns]).any():
        raise Broken("integers that differ from the trits")
    if isinstance(matrix, DirectMatrix):
        if matrix.scales.stored.tobytes() != scales.tobytes():
            raise Broken("scales that differ from the stored scales")
        return
    found = np.einsum("tgir,i->trg", _DIGITS[codes[0]], 3 ** np.arange(3))
    if (found.reshape(-1, found.shape[2])[:rows] != matrix.codes).any():
        raise Broken("codes that differ from their digits")


def _digits(t: int) -> tuple[int, int, int, int, int]:
    """Return D0..D4 of an ASTC trit block, as in the Khronos Data Format Specification."""
    if t >> 2 & 7 == 7:
        c, d3, d4 = (t >> 5) << 2 | t & 3, 2, 2
    else:
        c = t & 31
        d3, d4 = (t >> 7, 2) if t >> 5 & 3 == 3 else (t >> 5 & 3, t >> 7)
    if c & 3 == 3:
        return (c >> 3 & 1) << 1 | (c >> 2 & 1) & ~(c >> 3) & 1, c >> 4, 2, d3, d4
    if c >> 2 & 3 == 3:
        return c & 3, 2, 2, d3, d4
    return (c >> 1 & 1) << 1 | c & 1 & ~(c >> 1) & 1, c >> 2 & 3, c >> 4, d3, d4


_DIGITS = np.array([_digits(t) for t in range(256)])

TARGET = Target("packed checkpoints: open, verify, decode, export", packed_seeds, _run,
                changed_checkpoint)
