"""Where the tensors of a checkpoint come from: a Hugging Face directory, or another kind of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from golden.job import copy_files
from golden.shards import FLOATS, CheckpointError, Shard, Tensor, is_file_name, load_json

__all__ = [
    "CONFIG", "INDEX", "MODULES_TO_NOT_CONVERT", "SINGLE", "CheckpointError", "DirectorySource",
    "Source", "SourceShard", "SourceTensor", "Tensor", "all_tensors", "companions", "is_linear",
    "open_shards", "open_source",
]

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

#: Modules that are not quantized, besides embeddings and norms.
MODULES_TO_NOT_CONVERT = ("lm_head",)

_NOT_LINEAR = ("embed", "norm", "wte", "wpe")
#: Models whose linear layers are stored transposed.
_TRANSPOSED = ("gpt2", "openai-gpt", "imagegpt")
#: Weights in other formats, and files that run code when loaded.
_NOT_COMPANIONS = (
    ".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt",
    ".pkl", ".pickle", ".h5", ".msgpack", ".gguf", ".onnx",
)


class SourceTensor(Protocol):
    """A tensor that can be read; as :class:`Tensor`, but wherever its values come from.

    ``path`` is the file to name in messages, ``size`` what :meth:`pieces` adds up to.
    """

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...
    def read(self) -> np.ndarray: ...
    def pieces(self) -> Iterator[bytes]: ...


class SourceShard(Protocol):
    """Tensors that go into one file of a checkpoint, by name, and the metadata of that file."""

    @property
    def metadata(self) -> Mapping[str, str]: ...
    @property
    def tensors(self) -> Mapping[str, SourceTensor]: ...


class Source(ABC):
    """An unquantized checkpoint; reads nothing but headers until asked.

    Members
    -------
    path : Path
        The directory or file.
    config : dict
        What config.json holds, or will.
    shards : mapping
        :class:`SourceShard` by file name, sorted.
    sharded : bool
        Whether there is an index, however many shards.
    tensors : mapping
        :class:`SourceTensor` by name, shard by shard.
    settings : mapping
        Choices, besides the files, that decide what is written, as JSON can hold them.
    """

    path:    Path
    config:  dict
    shards:  Mapping[str, SourceShard]
    sharded: bool
    tensors: Mapping[str, SourceTensor]
    settings: Mapping[str, object] = {}

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that all of it comes from."""

    @abstractmethod
    def write_companions(self, directory: Path) -> None:
        """Write the files that go with the weights: tokenizer, generation settings, licence."""

    def read(self, name: str) -> np.ndarray:
        """A whole tensor, in its own dtype."""
        return self.tensors[name].read()

    def matrices(
        self, modules_to_not_convert: Sequence[str] = MODULES_TO_NOT_CONVERT,
        include: Sequence[str] = (),
    ) -> dict[str, SourceTensor]:
        """Matrices to be quantized, by module name (without ``.weight``).

        Linear layers, and matrices with a name, or a last part of it, that is in ``include``.

        Raises :class:`CheckpointError` when there is none, one is not of a float dtype, or nothing
        has a name to be included.
        """
        modules = {name.removesuffix(".weight"): tensor for name, tensor in self.tensors.items()
                   if name.endswith(".weight") and len(tensor.shape) == 2}
        asked = {module for one in include for module in self._included(one, modules)}
        found = {module: tensor for module, tensor in modules.items() if module in asked
                 or is_linear(tensor.name, tensor.shape, modules_to_not_convert)}
        if not found:
            raise CheckpointError(f"{self.path}: has no linear layer to quantize; check the model")
        for tensor in found.values():
            if tensor.dtype not in FLOATS:
                raise CheckpointError(f"{tensor.path}: {tensor.name} must be {', '.join(FLOATS)}, "
                                      f"not {tensor.dtype}; convert the model first")
        return found

    def _included(self, name: str, modules: Iterable[str]) -> list[str]:
        found = [module for module in modules if f".{module}".endswith(f".{name}")]
        if not found:
            raise CheckpointError(f"{self.path}: has no matrix {name} to include; a model that "
                                  "ties its head to its embedding has model.embed_tokens only")
        return found


class DirectorySource(Source):
    """A checkpoint of safetensors, one file or several, with its config.json.

    Its ``shards`` are :class:`golden.shards.Shard`, its ``tensors`` in the order of their bytes.

    Raises :class:`CheckpointError` for a directory that is not such a checkpoint, is damaged, or
    has weights that cannot be quantized as they are.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config, self.shards, self.sharded = open_shards(self.path)
        self.tensors = all_tensors(self.shards)
        kind = self.config.get("model_type")
        if kind in _TRANSPOSED:
            raise CheckpointError(f"{self.path}: model_type {kind} stores its matrices transposed, "
                                  "which is not supported; use another model")
        if "quantization_config" in self.config:
            raise CheckpointError(f"{self.path}: already quantized, by its quantization_config; "
                                  "use the original checkpoint")

    def files(self) -> list[Path]:
        """config.json, the index, companions and shards."""
        paths = [self.path / CONFIG, *companions(self.path)]
        paths += [self.path / INDEX] if self.sharded else []
        return paths + [shard.path for shard in self.shards.values()]

    def write_companions(self, directory: Path) -> None:
        """Copy what :func:`companions` finds in the directory."""
        copy_files(companions(self.path), directory)


def open_source(path: str | Path, *, tokenizer: bool = True) -> Source:
    """The checkpoint of a directory, or of a GGUF file, for which the gguf package is needed.

    Without a ``tokenizer``, that of a GGUF file is neither read nor written.

    Raises :class:`CheckpointError` for anything else.
    """
    if not Path(path).is_file():
        return DirectorySource(path)
    try:
        from golden.gguf.source import GgufSource
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path}: reading GGUF needs the package gguf; run pip install "
                              "'tritstream[gguf]'") from error
    return GgufSource(path, tokenizer=tokenizer)


def is_linear(
    name: str, shape: Sequence[int],
    modules_to_not_convert: Iterable[str] = MODULES_TO_NOT_CONVERT,
) -> bool:
    """Whether a tensor is the weight of a linear layer that is to be quantized.

    It is a matrix named ``MODULE.weight``; no part of MODULE names an embedding or a norm, and
    none of ``modules_to_not_convert`` is MODULE, a part of it, or a run of its parts.
    """
    module = name.removesuffix(".weight")
    if module == name or len(shape) != 2 or 0 in shape:
        return False
    if any(word in part for part in module.split(".") for word in _NOT_LINEAR):
        return False
    return not any(f".{kept}." in f".{module}." for kept in modules_to_not_convert)


def companions(path: Path) -> list[Path]:
    """Files that go with the weights: tokenizer, chat template, licence; sorted.

    Weights of other formats, pickles among them, are left out, and so are hidden files.

    Raises :class:`CheckpointError` for a link out of the directory, since what it leads to would be
    copied, whatever it is. The hub's cache, whose files are links into its own, may have them.
    """
    found = sorted(
        file for file in path.iterdir()
        if file.is_file() and file.name != CONFIG and not file.name.startswith(".")
        and not file.name.endswith(_NOT_COMPANIONS)
    )
    places = [path.resolve()]
    if places[0].parent.name == "snapshots":
        places.append(places[0].parent.parent / "blobs")
    for file in found:
        if not any(file.resolve().is_relative_to(place) for place in places):
            raise CheckpointError(f"{file}: a link out of the checkpoint; put the file there, or "
                                  "remove the link")
    return found


def open_shards(path: Path) -> tuple[dict, dict[str, Shard], bool]:
    """Configuration, shards by file name, and whether they have an index."""
    if not path.is_dir():
        raise CheckpointError(f"{path}: not a directory; give that of a checkpoint")
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{path}: has no {CONFIG}; give the directory of a checkpoint")
    # Some models have an infinity in theirs: transformers writes it as Python does.
    config = load_json(path / CONFIG, finite=False)
    if (path / SINGLE).is_file():
        return config, {SINGLE: Shard(path / SINGLE)}, False
    if not (path / INDEX).is_file():
        raise CheckpointError(f"{path}: has neither {SINGLE} nor {INDEX}; convert its weights to "
                              "safetensors")
    places = _weight_map(path / INDEX)
    shards = {name: _open_shard(path, name) for name in sorted(set(places.values()))}
    for tensor, shard in places.items():
        if tensor not in shards[shard].tensors:
            raise CheckpointError(f"{path / INDEX}: {tensor} is not in {shard}; copy both again")
    return config, shards, True


def all_tensors(shards: dict[str, Shard]) -> dict[str, Tensor]:
    """Tensors of several shards by name; raises :class:`CheckpointError` when two share one."""
    tensors: dict[str, Tensor] = {}
    for shard in shards.values():
        for name, tensor in shard.tensors.items():
            if name in tensors:
                raise CheckpointError(f"{shard.path}: {name} is in {tensors[name].path.name} too; "
                                      "copy the checkpoint again")
            tensors[name] = tensor
    return tensors


def _weight_map(path: Path) -> dict[str, str]:
    places = load_json(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{path}: weight_map must name a file for each tensor; "
                              "copy the file again")
    for tensor, name in places.items():
        if not is_file_name(name) or not name.endswith(".safetensors"):
            raise CheckpointError(f"{path}: {tensor} must be in a safetensors file of this "
                                  f"directory, not {name!r}; do not use this checkpoint")
    return places


def _open_shard(path: Path, name: str) -> Shard:
    if not (path / name).is_file():
        raise CheckpointError(f"{path / name}: missing, but {INDEX} names it; download it")
    return Shard(path / name)
