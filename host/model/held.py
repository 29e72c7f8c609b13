"""Packed checkpoint whose matrices a model holds: opening, checking, choice of a backend."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.safetensors_reader import Tensor as Stored
from tritstream.golden.matrix import row_dequantizer
from tritstream.golden.packed.layout import TRITS_SUFFIX
from tritstream.golden.packed.metadata import damaged
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import require_intact
from tritstream.golden.quantizers.registry import method_of
from tritstream.host.model.architecture import read_architecture
from tritstream.host.model.backends import Backend, Product, TilesHolder
from tritstream.host.model.config import TritstreamConfig
from tritstream.host.model.linear import PackedLayer, Rows, TritEmbedding, TritLinear
from tritstream.host.model.replacement import packed_layers
from tritstream.host.model.rotated import RotatedProduct
from tritstream.host.torch_values import to_numpy

__all__ = ["Held", "HeldCheckpoint", "hold", "open_checkpoint", "pack_plain", "set_backend"]


class Held(Protocol):
    """Tiles and table of a matrix in memory."""

    @property
    def scales(self) -> Tensor: ...

    def tiles(self) -> Tensor: ...


class HeldCheckpoint(PackedCheckpoint):
    """Packed checkpoint that reads matrices from memory, as soon as they are there.

    Members
    -------
    held : dict
        :class:`Held` by module name.
    """

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.held: dict[str, Held] = {}

    def tiles(self, name: str) -> np.ndarray:
        """Return the tiles of a matrix, without a copy if they are in the memory of the host."""
        return (self.held[name].tiles().numpy(force=True) if name in self.held
                else super().tiles(name))

    def table(self, name: str) -> np.ndarray:
        """Return the scale table of a matrix: float32 (27,)."""
        return (self.held[name].scales.numpy(force=True) if name in self.held
                else super().table(name))

    def _read(self, name: str, suffix: str) -> np.ndarray:
        layer = self.held.get(name)
        held = (layer.tiles() if layer and suffix == TRITS_SUFFIX else
                getattr(layer, suffix.removeprefix("."), None))
        return super()._read(name, suffix) if held is None else to_numpy(held)


def open_checkpoint(path: Path, matrices: bool = False) -> HeldCheckpoint:
    """Open a packed checkpoint, and check its unquantized tensors against their CRC-32s.

    Damage would otherwise only degrade the text. The packed matrices are checked as well with
    ``matrices``, which is not necessary for matrices that :func:`hold` checks after loading.

    Raises :class:`.CheckpointError`.
    """
    checkpoint = HeldCheckpoint(path)
    packed = [tensor for name in checkpoint.matrices for tensor in checkpoint.tensors_of(name)]
    require_intact(checkpoint, [*checkpoint.kept.values(), *(packed if matrices else [])])
    return checkpoint


def pack_plain(source_path: Path, out: Path, config: TritstreamConfig) -> list[str]:
    """Pack a plain checkpoint as ``tritstream quantize`` does, and return the paths of its shards.
    """
    source = DirectorySource(source_path)
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    pack_checkpoint(
        source_path, out, config.depth, overrides=config.depths, include=config.include,
        exclude=config.exclude, method=method_of(config.method, grouping=config.grouping),
        architecture=read_architecture(source_path, source.config, shapes))
    return [str(shard.path) for shard in PackedCheckpoint(out).shards.values()]


def hold(model: PreTrainedModel, checkpoint: HeldCheckpoint) -> None:
    """Let a checkpoint read the matrices of a loaded model, and check them against their CRC-32s.

    Raises :class:`.CheckpointError` if bytes are damaged, or were not loaded.
    """
    layers = list(packed_layers(model))
    for layer in layers:
        if layer.stored:
            for tensor in checkpoint.tensors_of(layer.matrix):
                _check(checkpoint, tensor, getattr(layer, tensor.name.rpartition(".")[2]))
            checkpoint.held[layer.matrix] = layer
    for layer in layers:
        if not layer.stored:
            held = checkpoint.held[layer.matrix]
            for tensor in checkpoint.tensors_of(layer.matrix):
                kind = tensor.name.rpartition(".")[2]
                setattr(layer, kind, held.tiles() if kind == "trits" else getattr(held, kind))


def set_backend(
    model: PreTrainedModel, backend: Backend, progress: Callable[[str], None] | None = None,
) -> None:
    """Let a backend multiply by the packed matrices of a model, in place of the backend before it.

    Parameters
    ----------
    model : PreTrainedModel
        Packed model, loaded by ``from_pretrained``.
    backend : Backend
    progress : callable, optional
        Called with the name of each matrix when the backend is ready for it.
    """
    checkpoint: HeldCheckpoint = vars(model)["hf_quantizer"].checkpoint
    layers: dict[str, list[PackedLayer]] = {}
    for layer in packed_layers(model):
        layers.setdefault(layer.matrix, []).append(layer)
    for name in checkpoint.matrices:
        if name in layers:
            _start(layers[name], backend, checkpoint, name)
        if progress:
            progress(name)


def _product(backend: Backend, checkpoint: PackedCheckpoint, name: str) -> Product:
    product, rotation = backend.prepare(checkpoint, name), checkpoint.inputs.rotation
    if rotation is None or name not in rotation.modules:
        return product
    return RotatedProduct(product, rotation, checkpoint.matrices[name].shape[1])


def _rows(checkpoint: PackedCheckpoint, name: str) -> Rows:
    rows, rotation = row_dequantizer(checkpoint.matrix(name)), checkpoint.inputs.rotation
    if rotation is None or name not in rotation.modules:
        return rows
    return lambda numbers: rotation.undo(rows(numbers))


def _start(
    layers: list[PackedLayer], backend: Backend, checkpoint: HeldCheckpoint, name: str,
) -> None:
    """Let a backend multiply by a matrix in the layers that have it."""
    tiles: Tensor | TilesHolder = layers[0].tiles()
    for layer in layers:
        layer.keep(tiles)
    for layer in layers:
        if isinstance(layer, TritEmbedding):
            layer.rows = _rows(checkpoint, name)
        elif isinstance(layer, TritLinear):
            layer.product = _product(backend, checkpoint, name)
            if isinstance(layer.product, TilesHolder):
                tiles = layer.product
    for layer in layers:
        layer.keep(tiles)


def _check(checkpoint: PackedCheckpoint, tensor: Stored, value: Tensor) -> None:
    found, due = zlib.crc32(to_numpy(value).view(np.uint8).data), checkpoint.checksums[tensor.name]
    if found != due:
        raise damaged(tensor.path, f"{tensor.name}: CRC-32 is {found:08x}, not {due:08x}: damaged "
                                   f"in {tensor.path.name}")
