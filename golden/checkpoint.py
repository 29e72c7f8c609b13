"""Packed checkpoints: what is in one, and reading it.

A directory as of Hugging Face whose config.json has a ``quantization_config``. In its safetensors
files a matrix ``NAME.weight`` is ``NAME.trits``, tiles in uint8, and ``NAME.scales``, float32
(27,); everything else is as it was. The ``__metadata__`` of each file has under ``tritstream``, as
JSON, the CRC-32 of the bytes of every tensor (eight hex digits) and its shape; the shape of
NAME.trits there is that of the matrix, N x K. Beside it is the CRC-32 of the header, which see
:func:`golden.shards.seal`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golden.fixed import GROUP, MAX_DEPTH, SCALES
from golden.quantize import CODEC, TritMatrix
from golden.shards import HEADER_CHECKSUM, CheckpointError, Shard, Tensor
from golden.sources import CONFIG, all_tensors, open_shards
from golden.tiles import tiles_shape, unpack

__all__ = [
    "FORMAT_VERSION", "QUANT_METHOD", "CheckpointError", "MatrixInfo", "PackedCheckpoint",
    "SCALES_SUFFIX", "TRITS_SUFFIX", "quantization_config", "shard_metadata",
]

FORMAT_VERSION = 1
QUANT_METHOD = "tritstream"
TRITS_SUFFIX = ".trits"
SCALES_SUFFIX = ".scales"


@dataclass(frozen=True)
class MatrixInfo:
    """A packed matrix: module name, shape (N, K) without padding, depth, file name of its shard."""

    name:  str
    shape: tuple[int, int]
    depth: int
    shard: str


class PackedCheckpoint:
    """A packed checkpoint, opened; reads nothing but headers until asked.

    Raises :class:`CheckpointError` for a directory that is not one, is of a newer format, or does
    not agree with itself. Only :func:`golden.verify.verify` reads the bytes against their CRC-32.

    Members
    -------
    path : Path
        The directory.
    config : dict
        What config.json holds.
    codec : str
        Profile that chose the codes; a reader need not know it.
    depth : int
        Depth of the matrices that have none of their own.
    shards : dict
        :class:`golden.shards.Shard` by file name, sorted.
    sharded : bool
        Whether there is an index, however many shards.
    matrices : dict
        :class:`MatrixInfo` by module name, in file order.
    kept : dict
        :class:`golden.shards.Tensor` by name: all that was not quantized.
    checksums : dict
        CRC-32 by tensor name.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config, self.shards, self.sharded = open_shards(self.path)
        self.depth, self._depths = _read_config(self.path / CONFIG, self.config)
        self.codec = self.config["quantization_config"].get("codec")
        self._tensors = all_tensors(self.shards)
        self.checksums: dict[str, int] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for shard in self.shards.values():
            for name, (shape, checksum) in _records(shard).items():
                shapes[name], self.checksums[name] = shape, checksum
        self.matrices = {}
        for name in self._tensors:
            if name.endswith(TRITS_SUFFIX):
                info = self._matrix_info(name.removesuffix(TRITS_SUFFIX), shapes[name])
                self.matrices[info.name] = info
        self._check_depths()
        packed = {name + end for name in self.matrices for end in (TRITS_SUFFIX, SCALES_SUFFIX)}
        self.kept = {name: t for name, t in self._tensors.items() if name not in packed}
        for name, tensor in self.kept.items():
            if tensor.shape != shapes[name]:
                raise _damaged(tensor.path, f"{name} has shape {tensor.shape}, not {shapes[name]}")

    def tiles(self, name: str) -> np.ndarray:
        """Tiles of a matrix: uint8 (ceil(N/5), ceil(K/16), 16d+3)."""
        return self._tensors[self._named(name) + TRITS_SUFFIX].read()

    def table(self, name: str) -> np.ndarray:
        """Scale table of a matrix: float32 (27,)."""
        return self._tensors[self._named(name) + SCALES_SUFFIX].read()

    def matrix(self, name: str) -> TritMatrix:
        """A matrix, unpacked; raises :class:`CheckpointError` when its table is damaged."""
        tiles, table = self.tiles(name), self.table(name)
        info = self.matrices[name]
        try:
            return unpack(tiles, info.depth, info.shape, table)
        except ValueError as error:
            raise _damaged(self.path / info.shard, f"{name}{SCALES_SUFFIX}: {error}") from None

    def read_kept(self, name: str) -> np.ndarray:
        """A tensor that was not quantized, in its own dtype."""
        if name not in self.kept:
            raise KeyError(f"no kept tensor {name!r} in {self.path}")
        return self.kept[name].read()

    def tensors_of(self, name: str) -> tuple[Tensor, Tensor]:
        """Where the tiles and the table of a matrix lie."""
        return self._tensors[name + TRITS_SUFFIX], self._tensors[name + SCALES_SUFFIX]

    def _named(self, name: str) -> str:
        if name not in self.matrices:
            raise KeyError(f"no packed matrix {name!r} in {self.path}")
        return name

    def _matrix_info(self, name: str, shape: tuple[int, ...]) -> MatrixInfo:
        depth = self._depths.get(name, self.depth)
        trits, scales = self._tensors[name + TRITS_SUFFIX], self._tensors.get(name + SCALES_SUFFIX)
        if scales is None:
            raise _damaged(trits.path, f"{name}{TRITS_SUFFIX} has no {name}{SCALES_SUFFIX}")
        if len(shape) != 2 or min(shape) < 1:
            raise _damaged(trits.path, f"{trits.name} is of a matrix of shape {shape}")
        _check_tensor(trits, "U8", tiles_shape(shape, depth))
        _check_tensor(scales, "F32", (SCALES,))
        return MatrixInfo(name, shape, depth, trits.path.name)

    def _check_depths(self) -> None:
        if not self.matrices:
            raise _damaged(self.path, "it has no packed matrix")
        for name in self._depths:
            if name not in self.matrices:
                raise _damaged(self.path / CONFIG, f"depths names {name}, which is not packed")


def quantization_config(
    depth: int, depths: Mapping[str, int], modules_to_not_convert: list[str],
) -> dict:
    """The ``quantization_config`` of a packed checkpoint; ``depths`` are those that differ."""
    return {
        "quant_method": QUANT_METHOD, "codec": CODEC, "format_version": FORMAT_VERSION,
        "depth": depth, "group_size": GROUP, "modules_to_not_convert": modules_to_not_convert,
        "depths": dict(depths),
    }


def shard_metadata(
    metadata: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]],
    checksums: Mapping[str, str],
) -> dict[str, str]:
    """``__metadata__`` of a shard: that of its source, and shape and CRC-32 of each tensor."""
    records = {name: {"shape": list(shapes[name]), "crc32": checksums[name]} for name in shapes}
    text = json.dumps(records, separators=(",", ":"))
    return {"format": "pt", **metadata, QUANT_METHOD: text, HEADER_CHECKSUM: "0" * 8}


def _read_config(path: Path, config: dict) -> tuple[int, dict[str, int]]:
    """Depth and the depths that differ, of a configuration that can be read here."""
    fields = config.get("quantization_config")
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path}: has no quantization_config; pack the checkpoint first")
    if fields.get("quant_method") != QUANT_METHOD:
        raise CheckpointError(f"{path}: quant_method must be {QUANT_METHOD!r}, not "
                              f"{fields.get('quant_method')!r}; pack the original checkpoint")
    version = fields.get("format_version")
    if type(version) is not int or version < 1:
        raise _damaged(path, f"format_version must be a positive integer, not {version!r}")
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{path}: format_version {version} is newer than {FORMAT_VERSION}; "
                              "update tritstream")
    if fields.get("group_size") != GROUP:
        raise _damaged(path, f"group_size must be {GROUP}, not {fields.get('group_size')!r}")
    depths = fields.get("depths", {})
    if not isinstance(depths, dict):
        raise _damaged(path, f"depths must map names to depths, not {depths!r}")
    for name, depth in [("depth", fields.get("depth")), *depths.items()]:
        if type(depth) is not int or not 1 <= depth <= MAX_DEPTH:
            raise _damaged(path, f"{name} must be 1..{MAX_DEPTH}, not {depth!r}")
    return fields["depth"], depths


def _records(shard: Shard) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape and CRC-32 of each tensor of a shard, by name, from its metadata."""
    records: dict[str, tuple[tuple[int, ...], int]] = {}
    if HEADER_CHECKSUM not in shard.metadata:
        raise _damaged(shard.path, f"its metadata has no {HEADER_CHECKSUM}")
    try:
        for name, record in json.loads(shard.metadata[QUANT_METHOD]).items():
            records[name] = _record(**record)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise _damaged(shard.path, f"{QUANT_METHOD} in its metadata cannot be read") from None
    if records.keys() != shard.tensors.keys():
        name = min(records.keys() ^ shard.tensors.keys())
        raise _damaged(shard.path, f"tensors and metadata disagree about {name}")
    return records


def _record(shape: Any, crc32: str) -> tuple[tuple[int, ...], int]:
    if len(crc32) != 8 or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError
    return tuple(shape), int(crc32, 16)


def _check_tensor(tensor: Tensor, dtype: str, shape: tuple[int, ...]) -> None:
    if (tensor.dtype, tensor.shape) != (dtype, shape):
        raise _damaged(tensor.path, f"{tensor.name} must be {dtype} {shape}, not "
                                    f"{tensor.dtype} {tensor.shape}")


def _damaged(path: Path, fault: str) -> CheckpointError:
    return CheckpointError(f"{path}: {fault}; copy it again")
