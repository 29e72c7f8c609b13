"""Saving of packed models: what transformers writes becomes a packed checkpoint."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tritstream.golden.checkpoints.safetensors_reader import Shard, Tensor, load_json
from tritstream.golden.checkpoints.safetensors_writer import Entry, ShardWriter
from tritstream.golden.checkpoints.source import CONFIG
from tritstream.golden.checkpoints.weight_files import (
    PACKED,
    PLAIN,
    REFUSAL,
    REFUSAL_FIELD,
    REFUSAL_INDEX,
    WEIGHTS,
    packed_name,
)
from tritstream.golden.jobs.directory_job import write_json
from tritstream.golden.packed.layout import TRITS_SUFFIX
from tritstream.golden.packed.metadata import CONVERTED, shard_metadata, version_of
from tritstream.golden.packed.reader import MatrixInfo, PackedCheckpoint

__all__ = ["save_as_packed"]

#: Options that would write other files.
_REFUSED = ("push_to_hub", "variant", "distributed_checkpoint", "state_dict")
_TIED = "tie_word_embeddings"
#: Results of :func:`_saving_class`.
_CLASSES: dict[type[PreTrainedModel], type[PreTrainedModel]] = {}


def save_as_packed(model: PreTrainedModel) -> None:
    """Make ``save_pretrained`` of a packed model write a packed checkpoint.

    transformers writes the tensors, under the names of the checkpoint. The files then become files
    of a packed checkpoint: another name, and a header with the checksums.
    """
    # transformers calls no hook after saving. A method of the instance would be a cycle, which
    # keeps the model and its device until a garbage collection.
    model.__class__ = _saving_class(type(model))


def _saving_class(kind: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Return a subclass of a class of models, with the same name and another way of saving."""
    if kind in _CLASSES:
        return _CLASSES[kind]

    def save_pretrained(
        self: PreTrainedModel, save_directory: str | os.PathLike, **options: Any,
    ) -> None:
        """Save a packed model: the arguments are those of ``PreTrainedModel.save_pretrained``."""
        _save(self, kind, Path(save_directory), options)

    fields = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    _CLASSES[kind] = type(kind.__name__, (kind,), fields | {"save_pretrained": save_pretrained})
    return _CLASSES[kind]


def _save(
    model: PreTrainedModel, kind: type[PreTrainedModel], folder: Path, options: Mapping[str, Any],
) -> None:
    for name in _REFUSED:
        if options.get(name):
            raise ValueError(f"a packed model cannot be saved with {name}; save it without, and "
                             "push_to_hub() it then")
    main = options.get("is_main_process", True)
    if main:
        # The model may be mapped from these files, so they must not be written over.
        for path in (*folder.glob("packed*.safetensors"), folder / PACKED.index,
                     folder / PLAIN.single, folder / PLAIN.index):
            path.unlink(missing_ok=True)
    kind.save_pretrained(model, folder, **options)
    if main:
        _pack_files(model, folder)


def _pack_files(model: PreTrainedModel, folder: Path) -> None:
    """Turn a directory that transformers wrote into a packed checkpoint."""
    quantizer = vars(model)["hf_quantizer"]
    checkpoint: PackedCheckpoint = quantizer.checkpoint
    sharded = not (folder / PLAIN.single).is_file()
    files = (set(load_json(folder / PLAIN.index)["weight_map"].values()) if sharded
             else {PLAIN.single})
    # The names are those of the checkpoint, or with save_original_format=False of the model.
    infos = checkpoint.matrices | {place: checkpoint.matrices[name]
                                   for place, name in quantizer.places.items()}
    tensors: dict[str, Tensor] = {}
    for file in sorted(files):
        tensors |= _pack_shard(folder / file, infos)
    if sharded:
        write_json(folder / PACKED.index, {
            "metadata": {"total_size": sum(tensor.size for tensor in tensors.values())},
            "weight_map": {name: packed_name(tensors[name].path.name) for name in sorted(tensors)}})
    write_json(folder / PLAIN.index, REFUSAL_INDEX)
    config = load_json(folder / CONFIG, finite=False)
    write_json(folder / CONFIG, _config(config, checkpoint, infos, tensors, sharded))


def _pack_shard(path: Path, infos: Mapping[str, MatrixInfo]) -> dict[str, Tensor]:
    """Write the packed file of a plain one, which is removed, and return its tensors."""
    shard, shapes, marks = Shard(path), {}, {}
    for name, tensor in shard.tensors.items():
        shapes[name] = tensor.shape
        if name.endswith(TRITS_SUFFIX):
            info = infos[name.removesuffix(TRITS_SUFFIX)]
            shapes[name], marks[name] = info.shape, info.marks
    writer = ShardWriter(
        path.with_name(packed_name(path.name)),
        [Entry(one.name, one.dtype, one.shape, one.size) for one in shard.tensors.values()],
        lambda checksums: shard_metadata(shard.metadata, shapes, marks, checksums))
    writer.allocate()
    writer.finish({name: writer.write(name, tensor.pieces())
                   for name, tensor in shard.tensors.items()})
    path.unlink()
    return shard.tensors


def _config(
    config: dict, checkpoint: PackedCheckpoint, infos: Mapping[str, MatrixInfo],
    tensors: Mapping[str, Tensor], sharded: bool,
) -> dict:
    """Return config.json of a saved model, given what transformers wrote."""
    saved = {name.removesuffix(TRITS_SUFFIX): infos[name.removesuffix(TRITS_SUFFIX)]
             for name in tensors if name.endswith(TRITS_SUFFIX)}
    fields = dict(checkpoint.config["quantization_config"])
    before = fields.pop(CONVERTED, {})
    origins = {name: before.get(name, tensor.dtype) for name, tensor in checkpoint.kept.items()}
    converted = {name: dtype for name, dtype in origins.items()
                 if name in tensors and tensors[name].dtype != dtype}
    fields |= {
        "format_version": version_of(info.marks for info in saved.values()),
        "depths": {name: info.depth for name, info in saved.items()
                   if info.depth != checkpoint.depth},
        WEIGHTS: PACKED.index if sharded else PACKED.single,
    } | ({CONVERTED: converted} if converted else {})
    # While it is loaded, packed layers that share a matrix are not tied for transformers.
    tied = {_TIED: checkpoint.config[_TIED]} if _TIED in checkpoint.config else {}
    return {**config, **tied, REFUSAL_FIELD: REFUSAL, "quantization_config": fields}
