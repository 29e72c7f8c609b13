"""Hugging Face checkpoint directories with safetensors files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tritstream.golden.checkpoints.diagnosis import (
    about_directory,
    about_path,
    about_quantization,
    about_weights,
)
from tritstream.golden.checkpoints.safetensors_reader import (
    GoneFile,
    Shard,
    Tensor,
    is_file_name,
    load_json,
)
from tritstream.golden.checkpoints.source import CONFIG, INDEX, Source
from tritstream.golden.checkpoints.ternary_methods import dequantized
from tritstream.golden.checkpoints.weight_files import WeightFiles, weight_files
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import copy_files

__all__ = ["DirectorySource", "all_tensors", "companions", "open_shards"]


#: Model types that store the matrices of linear layers transposed.
_TRANSPOSED = ("gpt2", "openai-gpt", "imagegpt")


#: Weights in other formats, and files that run code when loaded.
_NOT_COMPANIONS = (
    ".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt",
    ".pkl", ".pickle", ".h5", ".msgpack", ".gguf", ".onnx",
)


class DirectorySource(Source):
    """Checkpoint directory: config.json and one or more safetensors files.

    ``tensors`` are in the order of their bytes. Matrices of models that were trained ternary are
    dequantized: :func:`.dequantized`.

    Files of weights in ``gone`` are not looked for. Their tensors can be listed, but not read.

    Raises :class:`CheckpointError` if the directory is no such checkpoint or is damaged, if the
    model is quantized already, or if it stores its matrices transposed.
    """

    def __init__(self, path: str | Path, gone: Mapping[str, GoneFile] | None = None):
        self.path, self._gone = Path(path), dict(gone or {})
        self.config, shards, self.sharded = open_shards(self.path, self._gone)
        self._paths = [shard.path for file, shard in shards.items() if file not in self._gone]
        if self.sharded:
            self._drop_copies(shards)
        self.shards, self.tensors = shards, all_tensors(shards)
        if plain := dequantized(self.path, self.config, shards):
            self.config, self.shards, self.inputs = plain
            self.tensors = {name: tensor for shard in self.shards.values()
                            for name, tensor in shard.tensors.items()}
        kind = self.config.get("model_type")
        if kind in _TRANSPOSED:
            raise CheckpointError(f"{self.path}: model_type {kind} stores its matrices transposed, "
                                  "which is not supported; use another model")
        if quantized := about_quantization(self.path, self.config, self.tensors):
            raise CheckpointError(f"{self.path}: {quantized}")

    def files(self) -> list[Path]:
        """Return the paths of config.json, the index, companion files and shards not gone."""
        paths = [self.path / CONFIG, *companions(self.path)]
        paths += [self.path / INDEX] if self.sharded else []
        return paths + self._paths

    def fingerprint(self) -> dict[str, list[int]]:
        """Return size and modification time of each file, also of the files that are gone."""
        return super().fingerprint() | {file: list(gone.state)
                                        for file, gone in self._gone.items()}

    def _drop_copies(self, shards: dict[str, Shard]) -> None:
        """Ignore all copies of a tensor except the copy in the shard that the index names."""
        for name, file in _weight_map(self.path / INDEX).items():
            for other, shard in shards.items():
                if other != file:
                    shard.tensors.pop(name, None)

    def write_companions(self, directory: Path) -> None:
        """Copy the files that :func:`companions` returns to ``directory``."""
        copy_files(companions(self.path), directory)


def companions(path: Path) -> list[Path]:
    """Return the files to copy with the weights (tokenizer, chat template, licence), sorted.

    Hidden files and weights in other formats, such as pickles, are not included.

    Raises :class:`CheckpointError` for a symbolic link to a file outside the directory, because
    copying would expose that file. Links into the hub's own cache are accepted.
    """
    files = sorted(
        file for file in path.iterdir()
        if file.is_file() and file.name != CONFIG and not file.name.startswith(".")
        and not file.name.endswith(_NOT_COMPANIONS)
    )
    allowed = [path.resolve()]
    if allowed[0].parent.name == "snapshots":
        allowed.append(allowed[0].parent.parent / "blobs")
    for file in files:
        if not any(file.resolve().is_relative_to(directory) for directory in allowed):
            raise CheckpointError(f"{file}: is a link to a file outside the checkpoint; replace "
                                  "the link by the file, or remove it")
    return files


def open_shards(
    path: Path, gone: Mapping[str, GoneFile] | None = None,
) -> tuple[dict, dict[str, Shard], bool]:
    """Return the configuration, the shards by file name, and whether there is an index.

    ``gone`` describes shards that were deleted, by file name.
    """
    gone = gone or {}
    if not path.is_dir():
        advice = about_path(path) or "not a directory; give the directory of a checkpoint"
        raise CheckpointError(f"{path}: {advice}")
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{path}: {about_directory(path)}")
    # transformers writes infinities as Python does, and some models have one in config.json.
    config = load_json(path / CONFIG, finite=False)
    names = weight_files(config)
    if names.single in gone or (path / names.single).is_file():
        _check_single(path, names)
        return config, {names.single: Shard(path / names.single, gone.get(names.single))}, False
    if not (path / names.index).is_file():
        raise CheckpointError(f"{path}: {about_weights(path, config)}")
    files = _weight_map(path / names.index)
    _check_shards(path / names.index, sorted(set(files.values()) - gone.keys()))
    shards = {name: Shard(path / name, gone.get(name)) for name in sorted(set(files.values()))}
    for tensor, shard in files.items():
        if tensor not in shards[shard].tensors:
            raise CheckpointError(f"{path / names.index}: {tensor} is not in {shard}; copy both "
                                  "again")
    return config, shards, True


def all_tensors(shards: dict[str, Shard]) -> dict[str, Tensor]:
    """Return the tensors of shards by name; raise :class:`CheckpointError` for equal names."""
    tensors: dict[str, Tensor] = {}
    for shard in shards.values():
        for name, tensor in shard.tensors.items():
            if name in tensors:
                raise CheckpointError(f"{shard.path}: {name} is in {tensors[name].path.name} too; "
                                      "copy the checkpoint again")
            tensors[name] = tensor
    return tensors


def _weight_map(path: Path) -> dict[str, str]:
    files = load_json(path).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise CheckpointError(f"{path}: weight_map must name a file for each tensor; "
                              "copy the file again")
    for tensor, name in files.items():
        if not is_file_name(name) or not name.endswith(".safetensors"):
            raise CheckpointError(f"{path}: {tensor} must be in a safetensors file of this "
                                  f"directory, not {name!r}; do not use this checkpoint")
    return files


def _check_shards(index: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        others = f", and {len(missing) - 1} others of {len(names)}" if len(missing) > 1 else ""
        raise CheckpointError(f"{index.parent / missing[0]}: missing, but {index.name} names it"
                              f"{others}; download {'them' if others else 'it'}")


def _check_single(path: Path, names: WeightFiles) -> None:
    """Refuse a directory with two sets of weights, because nothing states which one is current."""
    try:
        index = path / names.index
        files = set(_weight_map(index).values()) if index.is_file() else set()
    except CheckpointError:
        # With a single file the index is not used, so a damaged index does not matter.
        return
    for name in sorted(files):
        if name != names.single and (path / name).is_file():
            raise CheckpointError(f"{path}: has both {names.single} and {name}, which "
                                  f"{names.index} names; remove the one that is out of date")
