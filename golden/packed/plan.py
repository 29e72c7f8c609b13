"""What becomes of each tensor of a checkpoint, decided before anything is written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tritstream.golden.checkpoints.safetensors_writer import Entry, ShardWriter
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import SCALES, tiles_shape
from tritstream.golden.jobs.directory_job import fingerprint
from tritstream.golden.packed.metadata import (
    SCALES_SUFFIX,
    TRITS_SUFFIX,
    quantization_config,
    shard_metadata,
    version_of,
)
from tritstream.golden.quantize import CODEC

__all__ = ["Plan", "Written", "source_fingerprint"]


@dataclass(frozen=True)
class Written:
    """What is written for one source tensor: entries, and the shapes that metadata give them."""

    entries: tuple[Entry, ...]
    shapes:  dict[str, tuple[int, ...]]


class Plan:
    """Which tensors become packed matrices, and all that follows for the files.

    Parameters
    ----------
    source : Source
        The checkpoint.
    matrices : mapping
        Tensors to pack, by module name.
    depth, depths : int, mapping
        Trits of a weight; of the modules that have another.
    kept : iterable of str
        Names of modules that are kept whatever they are.
    codec : str
        Profile that chooses the codes.
    marks : mapping
        By module name, what :func:`tritstream.golden.packed.metadata.marks_of` says of it.
    notes : mapping
        More fields of the ``quantization_config``.

    Raises :class:`CheckpointError` for a source with a name that packed matrices take.
    """

    def __init__(
        self, source: Source, matrices: Mapping[str, SourceTensor], depth: int, *,
        depths: Mapping[str, int], kept: Iterable[str], codec: str = CODEC,
        marks: Mapping[str, dict[str, str]] | None = None,
        notes: Mapping[str, object] | None = None,
    ):
        self.source, self.matrices, self.depth = source, matrices, depth
        self.depths = {name: other for name, other in depths.items() if other != depth}
        self.codec, self._notes = codec, dict(notes or {})
        self._marks = {name + TRITS_SUFFIX: mark for name, mark in (marks or {}).items() if mark}
        modules = {name.removesuffix(".weight") for name, tensor in source.tensors.items()
                   if len(tensor.shape) == 2 and name.endswith(".weight")}
        self.kept = sorted({*kept, *modules} - matrices.keys())
        self._check_names()

    @property
    def version(self) -> int:
        """Format version of the output."""
        return version_of(self._marks.values())

    def depth_of(self, name: str) -> int:
        """Trits of a weight of this matrix."""
        return self.depths.get(name, self.depth)

    def module_of(self, tensor: SourceTensor) -> str | None:
        """Name of the matrix that a tensor becomes, None when it is kept."""
        name = tensor.name.removesuffix(".weight")
        return name if self.matrices.get(name) is tensor else None

    def config(self) -> dict:
        """config.json of the output."""
        fields = quantization_config(self.depth, self.depths, self.kept, codec=self.codec,
                                     version=self.version)
        return {**self.source.config, "quantization_config": fields | self._notes}

    def index(self) -> dict:
        """model.safetensors.index.json of the output."""
        places, size = {}, 0
        for file, shard in self.source.shards.items():
            for tensor in shard.tensors.values():
                for entry in self.written(tensor).entries:
                    places[entry.name] = file
                    size += entry.size
        return {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}

    def writer(self, file: str, directory: Path) -> ShardWriter:
        """Writer of what a shard becomes."""
        shard = self.source.shards[file]
        written = [self.written(tensor) for tensor in shard.tensors.values()]
        shapes = {name: shape for one in written for name, shape in one.shapes.items()}
        return ShardWriter(
            directory / file, [entry for one in written for entry in one.entries],
            lambda checksums: shard_metadata(shard.metadata, shapes, self._marks, checksums))

    def written(self, tensor: SourceTensor) -> Written:
        """What is written for one tensor."""
        name = self.module_of(tensor)
        if name is None:
            entry = Entry(tensor.name, tensor.dtype, tensor.shape, tensor.size)
            return Written((entry,), {tensor.name: tensor.shape})
        rows, groups, size = shape = tiles_shape(tensor.shape, self.depth_of(name))
        trits = Entry(name + TRITS_SUFFIX, "U8", shape, rows * groups * size)
        scales = Entry(name + SCALES_SUFFIX, "F32", (SCALES,), 4 * SCALES)
        return Written((trits, scales), {trits.name: tensor.shape, scales.name: (SCALES,)})

    def _check_names(self) -> None:
        """No tensor may be called what a packed matrix is, or would be taken for one."""
        taken = {name + SCALES_SUFFIX for name in self.matrices}
        for name, tensor in self.source.tensors.items():
            if name in taken or name.endswith(TRITS_SUFFIX):
                raise CheckpointError(f"{tensor.path}: {name} has a name that packed matrices "
                                      "take; rename it in the source")


def source_fingerprint(source: Source) -> dict[str, list[int]]:
    """Whether the files that decide the output are still the same."""
    return fingerprint(source.files())
