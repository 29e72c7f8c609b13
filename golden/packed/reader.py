"""Reader of packed checkpoints.

A packed checkpoint is a Hugging Face directory whose config.json has a ``quantization_config``.
Its safetensors files hold a matrix ``NAME.weight`` as ``NAME.trits``, tiles in uint8, and
``NAME.scales``, float32 (27,), or from version 5 on in another :class:`.Layout`. All other tensors
are unquantized. The ``__metadata__`` of each file
holds, as JSON under the key ``tritstream``, the CRC-32 (eight hex digits) and the shape of every
tensor. The shape of ``NAME.trits`` in this JSON is the shape N x K of the matrix. Form and dtype of
a matrix are included unless they are the defaults, and so are the axes of a slice of a tensor with
three dimensions (see :mod:`tritstream.golden.checkpoints.slices`). ``__metadata__`` also holds the
CRC-32 of the header (see :func:`.seal`).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.directory import all_tensors, open_shards
from tritstream.golden.checkpoints.hub import local_model
from tritstream.golden.checkpoints.safetensors_reader import FLOATS, Shard, Tensor
from tritstream.golden.checkpoints.slices import slice_module, stacked_shape
from tritstream.golden.checkpoints.source import CONFIG
from tritstream.golden.checkpoints.weight_files import weight_files
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import check_group, check_table, table_unit
from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.golden.packed.inputs import read_inputs
from tritstream.golden.packed.layout import (
    CODES_SUFFIX,
    INVERSE,
    SCALES_SUFFIX,
    TILES,
    TRITS_SUFFIX,
    Layout,
)
from tritstream.golden.packed.metadata import (
    QUANT_METHOD,
    Record,
    damaged,
    marks_of,
    read_config,
    read_records,
)
from tritstream.golden.packed_matrix import PackedMatrix, StoredMatrix
from tritstream.golden.rounding import FORM, Form
from tritstream.golden.scales import CodedScales, DirectScales
from tritstream.golden.tiles import unpack, unpack_codes

__all__ = [
    "QUANT_METHOD",
    "SCALES_SUFFIX",
    "TRITS_SUFFIX",
    "CheckpointError",
    "MatrixInfo",
    "PackedCheckpoint",
]


@dataclass(frozen=True)
class MatrixInfo:
    """Packed matrix: module name, shape (N, K) without padding, depth, file name of its shard.

    ``form`` defines how weights are computed, ``dtype`` to which dtype an export rounds them.
    ``axes`` states the axes, one of :data:`.AXES`, if the matrix is a slice of a tensor
    with three dimensions in the source, else None. ``layout`` states the tensors that hold it.
    """

    name:  str
    shape: tuple[int, int]
    depth: int
    shard: str
    form:  Form = FORM
    dtype: str = "F16"
    axes:  str | None = None
    layout: Layout = TILES

    @property
    def origin(self) -> str:
        """Name of the tensor in the source that holds the matrix."""
        return self.name.rpartition(".")[0] if self.axes else f"{self.name}.weight"

    @property
    def marks(self) -> dict[str, str | int]:
        """Form, dtype, axes and layout as metadata fields, empty for the defaults."""
        return {**marks_of(self.form, self.dtype, self.axes), **self.layout.marks()}


class PackedCheckpoint:
    """Packed checkpoint. Opening it reads headers only.

    ``path`` is a directory, or the name of a model on the Hub: :func:`.local_model`.

    Raises :class:`CheckpointError` if the directory is no packed checkpoint, has a newer format
    version, or is inconsistent. Only :func:`.verify` checks the CRC-32 of values.

    Members
    -------
    path : Path
        The directory.
    config : dict
        Contents of config.json.
    codec : str
        Profile that determined the codes. Reading does not depend on it.
    depth : int
        Default depth, for matrices without a depth of their own.
    inputs : Inputs
        What the model does with the inputs of its matrices.
    shards : dict
        :class:`.Shard` by file name, sorted.
    sharded : bool
        Whether there is an index, which is possible for a single shard too.
    matrices : dict
        :class:`MatrixInfo` by module name, in file order.
    origins : dict
        Matrices of each packed tensor of the source, by the name of that tensor: one matrix, or
        one per slice in their order.
    kept : dict
        Unquantized tensors: :class:`.Tensor` by name.
    checksums : dict
        CRC-32 by tensor name.
    """

    def __init__(self, path: str | Path):
        path = local_model(path)
        self._open(path, *open_shards(path))
        self._check_depths()

    @classmethod
    def of_shards(
        cls, path: Path, config: dict, shards: dict[str, Shard], sharded: bool,
    ) -> "PackedCheckpoint":
        """Return a part of a checkpoint, which may have no matrix: some of its shards.

        ``config`` is a config.json that describes this part only.
        """
        part = cls.__new__(cls)
        part._open(path, config, shards, sharded)
        return part

    def _open(self, path: Path, config: dict, shards: dict[str, Shard], sharded: bool) -> None:
        self.path, self.config, self.shards, self.sharded = path, config, shards, sharded
        self.depth, self._depths = read_config(self.path / CONFIG, self.config, self.file)
        self.codec = self.config["quantization_config"].get("codec")
        self._tensors = all_tensors(self.shards)
        records: dict[str, Record] = {}
        for shard in self.shards.values():
            records |= read_records(shard)
        self.checksums = {name: record.checksum for name, record in records.items()}
        self.matrices = {}
        for name in self._tensors:
            if name.endswith(TRITS_SUFFIX):
                info = self._matrix_info(name.removesuffix(TRITS_SUFFIX), records[name])
                self.matrices[info.name] = info
        self.inputs = read_inputs(
            self.path / CONFIG, self.config["quantization_config"],
            {name: info.shape[1] for name, info in self.matrices.items() if not info.axes})
        self.origins = _origins(self.path, self.matrices.values())
        packed = {name + suffix for name, info in self.matrices.items()
                  for suffix in info.layout.suffixes}
        self.kept = {name: t for name, t in self._tensors.items() if name not in packed}
        for name, tensor in self.kept.items():
            if tensor.shape != records[name].shape:
                raise damaged(tensor.path, f"{name} has shape {tensor.shape}, not "
                                            f"{records[name].shape}")
            if name in self.origins:
                raise damaged(tensor.path, f"{name} is unquantized, and packed as well")

    @property
    def file(self) -> str:
        """Name of the file that holds or lists the weights."""
        names = weight_files(self.config)
        return names.index if self.sharded else names.single

    def tiles(self, name: str) -> np.ndarray:
        """Return the tiles of a matrix whose layout is tiles: uint8 (ceil(N/5), ceil(K/16), 16d+3).

        Raises :class:`ValueError` for another layout; :meth:`packed_matrix` reads it.
        """
        return self._tensors[self._in_tiles(name) + TRITS_SUFFIX].read()

    def table(self, name: str) -> np.ndarray:
        """Return the scale table of a matrix whose layout is tiles: float32 (27,)."""
        return self._tensors[self._in_tiles(name) + SCALES_SUFFIX].read()

    def checked_table(self, name: str) -> np.ndarray:
        """Return the scale table of a matrix; raise :class:`CheckpointError` if it is damaged."""
        table = self.table(name)
        try:
            check_table(table)
        except ValueError as error:
            shard = self.path / self.matrices[name].shard
            raise damaged(shard, f"{name}{SCALES_SUFFIX}: {error}") from None
        return table

    def packed_matrix(self, name: str) -> PackedMatrix:
        """Return trits and scales of a matrix whose layout is not tiles.

        Raises :class:`CheckpointError` if the scales are damaged.
        """
        info = self.matrices[self._named(name)]
        return PackedMatrix(info.depth, info.shape, self._read(name, TRITS_SUFFIX),
                            self._scales(info), info.layout.group, info.form)

    def stored(self, name: str) -> StoredMatrix:
        """Return a matrix as it is stored: tiles, or trits and scales.

        Raises :class:`CheckpointError` if the scales are damaged.
        """
        info = self.matrices[self._named(name)]
        if info.layout.kind:
            return self.packed_matrix(name)
        return self.tiles(name), self.checked_table(name), info.depth, info.shape

    def units(self, name: str) -> np.ndarray:
        """Return the values of 1 in a row sum times h: float64, () or (N,), see :class:`.Scales`.

        Raises :class:`CheckpointError` if the scales are damaged.
        """
        info = self.matrices[self._named(name)]
        return (self._scales(info).units if info.layout.kind
                else np.asarray(table_unit(self.checked_table(name))))

    def matrix(self, name: str) -> TritMatrix | DirectMatrix:
        """Return a matrix, unpacked; raise :class:`CheckpointError` if its scales are damaged."""
        info = self.matrices[self._named(name)]
        if info.layout.kind:
            return self.packed_matrix(name).unpack()
        return unpack(self.tiles(name), info.depth, info.shape, self.checked_table(name), info.form)

    def source_shape(self, origin: str) -> tuple[int, ...]:
        """Return the shape of a packed tensor in the source."""
        infos = self.origins[origin]
        axes = infos[0].axes
        return stacked_shape(len(infos), infos[0].shape, axes) if axes else infos[0].shape

    def read_kept(self, name: str) -> np.ndarray:
        """Return the values of an unquantized tensor in its own dtype."""
        if name not in self.kept:
            raise KeyError(f"no kept tensor {name!r} in {self.path}")
        return self.kept[name].read()

    def tensors_of(self, name: str) -> tuple[Tensor, ...]:
        """Return the tensors of a matrix, not read yet: trits, scales, and codes if apart."""
        return tuple(self._tensors[name + suffix] for suffix in self.matrices[name].layout.suffixes)

    def _named(self, name: str) -> str:
        if name not in self.matrices:
            raise KeyError(f"no packed matrix {name!r} in {self.path}")
        return name

    def _read(self, name: str, suffix: str) -> np.ndarray:
        """Return the values of a tensor of a matrix whose layout is not tiles."""
        return self._tensors[name + suffix].read()

    def _in_tiles(self, name: str) -> str:
        group = self.matrices[self._named(name)].layout
        if group.kind:
            raise ValueError(f"{name} has {group.kind} scales of {group.group} weights, not tiles")
        return name

    def _scales(self, info: MatrixInfo) -> CodedScales | DirectScales:
        stored = self._tensors[info.name + SCALES_SUFFIX]
        try:
            if info.layout.direct:
                return DirectScales(self._read(info.name, SCALES_SUFFIX), info.shape[0],
                                    info.layout.kind == INVERSE)
            codes = unpack_codes(self._read(info.name, CODES_SUFFIX), info.shape[0])
            return CodedScales(codes, self._read(info.name, SCALES_SUFFIX))
        except ValueError as error:
            raise damaged(stored.path, f"{stored.name}: {error}") from None

    def _matrix_info(self, name: str, record: Record) -> MatrixInfo:
        depth, shape = self._depths.get(name, self.depth), record.shape
        trits, scales = self._tensors[name + TRITS_SUFFIX], self._tensors.get(name + SCALES_SUFFIX)
        if scales is None:
            raise damaged(trits.path, f"{name}{TRITS_SUFFIX} has no {name}{SCALES_SUFFIX}")
        if len(shape) != 2 or min(shape) < 1:
            raise damaged(trits.path, f"{trits.name} is of a matrix of shape {shape}")
        layout = _layout(record, scales)
        try:
            check_group(layout.group, shape[1])
        except ValueError as error:
            raise damaged(trits.path, f"{trits.name}: {error}") from None
        for entry in layout.entries(name, shape, depth):
            if entry.name not in self._tensors:
                raise damaged(trits.path, f"{trits.name} has no {entry.name}")
            _check_tensor(self._tensors[entry.name], entry.dtype, entry.shape)
        return MatrixInfo(name, shape, depth, trits.path.name, record.form, record.dtype,
                          record.axes, layout)

    def _check_depths(self) -> None:
        if not self.matrices:
            raise damaged(self.path, "it has no packed matrix")
        for name in self._depths:
            if name not in self.matrices:
                raise damaged(self.path / CONFIG, f"depths names {name}, which is not packed")


def _layout(record: Record, scales: Tensor) -> Layout:
    """Return the layout of a matrix; the tensor of its scales states the kind of direct scales."""
    layout = Layout(record.group, record.scales)
    if not layout.direct:
        return layout
    if scales.dtype not in FLOATS:
        raise damaged(scales.path, f"{scales.name} must be {', '.join(FLOATS)}, "
                                   f"not {scales.dtype}")
    return Layout(record.group, record.scales, scales.dtype, scales.shape == (1, 1))


def _check_tensor(tensor: Tensor, dtype: str, shape: tuple[int, ...]) -> None:
    if (tensor.dtype, tensor.shape) != (dtype, shape):
        raise damaged(tensor.path, f"{tensor.name} must be {dtype} {shape}, not "
                                    f"{tensor.dtype} {tensor.shape}")


def _origins(path: Path, matrices: Iterable[MatrixInfo]) -> dict[str, tuple[MatrixInfo, ...]]:
    """Return the matrices by the tensor of the source that holds them.

    Raises :class:`CheckpointError` if a tensor lacks a slice, or if its slices differ in shape,
    dtype or axes.
    """
    found: defaultdict[str, list[MatrixInfo]] = defaultdict(list)
    for info in matrices:
        found[info.origin].append(info)
    for name, infos in found.items():
        if not any(info.axes for info in infos):
            continue
        slices = {info.name: info for info in infos}
        expected = [slice_module(name, index) for index in range(len(infos))]
        for module in expected:
            if module not in slices:
                raise damaged(path / infos[0].shard, f"{name} lacks its slice {module}")
        found[name] = [slices[module] for module in expected]
        if len({(info.shape, info.dtype, info.axes) for info in infos}) > 1:
            raise damaged(path / infos[0].shard, f"the slices of {name} differ in shape, dtype or "
                                                 "axes")
    return {name: tuple(infos) for name, infos in found.items()}
