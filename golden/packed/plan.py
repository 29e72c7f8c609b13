"""Plan of a packed checkpoint: output tensors and files, decided before anything is written."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tritstream.golden.checkpoints.safetensors_writer import Entry, ShardWriter
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.checkpoints.weight_files import REFUSAL, REFUSAL_FIELD, packed_name
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import GROUP
from tritstream.golden.packed.card import BaseModel
from tritstream.golden.packed.inputs import VERSION
from tritstream.golden.packed.layout import TILES, TRITS_SUFFIX, Layout
from tritstream.golden.packed.metadata import (
    quantization_config,
    shard_metadata,
    version_of,
)
from tritstream.golden.quantize import CODEC

__all__ = ["Plan", "Written"]


@dataclass(frozen=True)
class Written:
    """Output of one source tensor: entries to write, and shapes for the metadata by entry name."""

    entries: tuple[Entry, ...]
    shapes:  dict[str, tuple[int, ...]]


class Plan:
    """Assignment of source tensors to packed matrices, and the contents of all output files.

    Parameters
    ----------
    source : Source
        Source checkpoint.
    matrices : mapping
        Tensors to pack, by module name.
    depth : int
        Default number of trits per weight.
    depths : mapping
        Trits per weight by module name, for modules with another depth.
    kept : iterable of str
        Names of modules that must not be converted, for config.json.
    codec : str
        Profile that determines the codes.
    marks : mapping
        Metadata fields of matrices by module name: see :func:`.marks_of`.
    layouts : mapping
        Group length and kind of scales by module name, for matrices that are not tiles.
    notes : mapping
        Additional fields of the ``quantization_config``.
    base : BaseModel
        Source on the Hub, if known, for the model card.

    Raises :class:`CheckpointError` if the source uses a name that is reserved for packed matrices.
    """

    def __init__(
        self, source: Source, matrices: Mapping[str, SourceTensor], depth: int, *,
        depths: Mapping[str, int], kept: Iterable[str], codec: str = CODEC,
        marks: Mapping[str, dict[str, str]] | None = None,
        layouts: Mapping[str, Layout] | None = None,
        notes: Mapping[str, object] | None = None, base: BaseModel | None = None,
    ):
        self.source, self.matrices, self.depth, self.base = source, matrices, depth, base
        self.depths = {name: other for name, other in depths.items() if other != depth}
        self.codec, self._notes = codec, dict(notes or {})
        self._inputs = source.inputs.of(matrices).fields()
        self._layouts = dict(layouts or {})
        self.marks: dict[str, dict[str, str | int]] = {
            name: mark for name in matrices
            if (mark := {**(marks or {}).get(name, {}), **self.layout_of(name).marks()})}
        modules = {name.removesuffix(".weight") for name, tensor in source.tensors.items()
                   if len(tensor.shape) == 2 and name.endswith(".weight")}
        self.kept = sorted({*kept, *modules} - matrices.keys())
        self._check_names()

    @property
    def version(self) -> int:
        """Format version of the output."""
        return max(version_of(self.marks.values()), VERSION if self._inputs else 1)

    def depth_of(self, name: str) -> int:
        """Return the trits per weight of a matrix."""
        return self.depths.get(name, self.depth)

    def layout_of(self, name: str) -> Layout:
        """Return the group length and kind of scales of a matrix."""
        return self._layouts.get(name, TILES)

    @property
    def group(self) -> int:
        """Group length of most weights; 16 if all matrices are tiles."""
        weights: Counter[int] = Counter()
        for name, tensor in self.matrices.items():
            weights[self.layout_of(name).group] += math.prod(tensor.shape)
        return weights.most_common(1)[0][0] if weights else GROUP

    def module_of(self, tensor: SourceTensor) -> str | None:
        """Return the module name of a tensor to pack, None for an unquantized tensor."""
        name = tensor.name.removesuffix(".weight")
        return name if self.matrices.get(name) is tensor else None

    def config(self) -> dict:
        """Return config.json of the output."""
        fields = quantization_config(self.depth, self.depths, self.kept, codec=self.codec,
                                     version=self.version, sharded=self.source.sharded,
                                     group=self.group)
        return {**self.source.config, REFUSAL_FIELD: REFUSAL,
                "quantization_config": fields | self._inputs | self._notes}

    def index(self) -> dict:
        """Return packed.safetensors.index.json of the output."""
        files, size = {}, 0
        for file, shard in self.source.shards.items():
            for tensor in shard.tensors.values():
                for entry in self.written(tensor).entries:
                    files[entry.name] = packed_name(file)
                    size += entry.size
        return {"metadata": {"total_size": size}, "weight_map": dict(sorted(files.items()))}

    def writer(self, file: str, directory: Path) -> ShardWriter:
        """Return the writer of the output file of a source file."""
        shard = self.source.shards[file]
        written = [self.written(tensor) for tensor in shard.tensors.values()]
        shapes = {name: shape for one in written for name, shape in one.shapes.items()}
        marks = {name + TRITS_SUFFIX: mark for name, mark in self.marks.items()}
        return ShardWriter(
            directory / packed_name(file), [entry for one in written for entry in one.entries],
            lambda checksums: shard_metadata(shard.metadata, shapes, marks, checksums))

    def written(self, tensor: SourceTensor) -> Written:
        """Return the output of one source tensor."""
        name = self.module_of(tensor)
        if name is None:
            entry = Entry(tensor.name, tensor.dtype, tensor.shape, tensor.size)
            return Written((entry,), {tensor.name: tensor.shape})
        rows, columns = tensor.shape
        entries = self.layout_of(name).entries(name, (rows, columns), self.depth_of(name))
        shapes = {entry.name: entry.shape for entry in entries}
        return Written(entries, shapes | {name + TRITS_SUFFIX: tensor.shape})

    def _check_names(self) -> None:
        """Raise if a source tensor has the name of a packed tensor, or would be read as packed."""
        taken = {name + suffix for name in self.matrices
                 for suffix in self.layout_of(name).suffixes}
        for name, tensor in self.source.tensors.items():
            if name in taken or name.endswith(TRITS_SUFFIX):
                raise CheckpointError(f"{tensor.path}: {name} has a name that packed matrices "
                                      "take; rename it in the source")
