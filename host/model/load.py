"""Loading of causal language models: original, exported and packed checkpoints, GGUF files."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tritstream.golden.cache_place import scratch
from tritstream.golden.checkpoints import weight_files
from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.diagnosis import about_file
from tritstream.golden.checkpoints.directory import open_shards
from tritstream.golden.checkpoints.hub import local_model
from tritstream.golden.checkpoints.source import CONFIG
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import write_json
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.model.backends import (
    INTEGER_BACKENDS,
    ActivationBits,
    Backend,
    ReferenceBackend,
)
from tritstream.host.model.config import TritstreamConfig
from tritstream.host.model.finite import stop_at_non_finite
from tritstream.host.model.held import set_backend
from tritstream.host.model.settings import read_settings
from tritstream.host.model.skeleton import built, model_class, no_bars, read_by_others, read_config

__all__ = ["check_path", "is_packed", "load_model", "load_tokenizer", "make_backend"]

#: Files of a tokenizer, at least one of which must exist.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
#: Files of a tokenizer that transformers reads.
_TEXTS = (*_TOKENIZERS, "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
          "added_tokens.json", "chat_template.jinja")


def load_model(
    path: str | Path, *, backend: str | Backend = "reference", activation_bits: ActivationBits = 8,
    dtype: torch.dtype = torch.float32, progress: Callable[[str], None] | None = None,
) -> PreTrainedModel:
    """Load the model of a directory, original or packed, or of a GGUF file, for inference.

    The layers of the model check their values: :func:`.stop_at_non_finite`.

    Parameters
    ----------
    path : path
        Directory of a checkpoint in safetensors: original, exported or packed. Or a GGUF file,
        which is converted to a temporary directory first. Or the name of a model on the Hub:
        :func:`.local_model`.
    backend : str or Backend
        Backend for the products of packed matrices: ``reference`` (dequantized weights in
        ``dtype``), ``golden`` (integers of :mod:`tritstream.golden.gemv`), ``cpu`` or ``cuda`` (the
        same integers, from packed bytes), or a :class:`.Backend` such as :class:`.DeviceBackend`. A
        model that is not packed requires ``reference``.
    activation_bits : int or mapping
        Bits per activation of the integers, 8 or 16: :data:`.ActivationBits`.
    dtype : torch.dtype
        Dtype of all tensors that are not packed.
    progress : callable, optional
        Called with the name of each packed matrix after it is loaded.

    Raises :class:`ValueError` for a wrong backend, and :class:`.CheckpointError` if the checkpoint
    is unusable.
    """
    if isinstance(backend, str):
        backend = make_backend(backend, activation_bits, dtype)
    path = local_model(path)
    check_path(path)
    if is_packed(path):
        return _load_packed(path, backend, dtype, progress)
    if not isinstance(backend, ReferenceBackend):
        raise ValueError(f"{path}: not packed, so only the reference backend can run it; "
                         "`tritstream quantize` packs it")
    fields = open_source(path).config if path.is_file() else open_shards(path)[0]
    advice = "complete the checkpoint, or correct its config.json"
    model = _from_pretrained(path, read_config(path, fields), dtype, advice)
    stop_at_non_finite(model)
    return model.eval()


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint directory, packed or not, or of a GGUF file.

    ``path`` may also be the name of a model on the Hub: :func:`.local_model`. Raises
    :class:`.CheckpointError` if the tokenizer is missing or damaged.
    """
    path = local_model(path)
    check_path(path)
    with _converted(path, weights=False) as folder:
        if not any((folder / name).is_file() for name in _TOKENIZERS):
            raise CheckpointError(f"{path}: has no tokenizer; copy tokenizer.json and "
                                  "tokenizer_config.json of the model there")
        _check_texts(folder)
        with read_by_others(f"{path}: its tokenizer cannot be read", "copy it again"):
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@contextmanager
def _converted(path: str | Path, weights: bool = True) -> Iterator[Path]:
    """Yield the directory of a checkpoint; a GGUF file is converted to a temporary directory."""
    if not Path(path).is_file():
        yield Path(path)
        return
    source = open_source(path)
    with scratch() as temporary:
        folder = temporary / "model"
        if weights:
            convert(source, folder)
        else:
            folder.mkdir()
            write_json(folder / CONFIG, source.config)
            source.write_companions(folder)
        yield folder


def check_path(path: str | Path) -> None:
    """Raise :class:`.CheckpointError` if transformers cannot open files under this path."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{path}: transformers opens paths in UTF-8 only; rename the "
                              "directory") from None


def _check_texts(path: Path) -> None:
    """Raise if a file of the tokenizer has another format than its name says."""
    for name in _TEXTS:
        if (path / name).is_file():
            with (path / name).open("rb") as file:
                if found := about_file(file.read(256)):
                    raise CheckpointError(f"{path / name}: {found}")


def is_packed(path: str | Path) -> bool:
    """Return whether a checkpoint is packed. A GGUF file is not.

    ``path`` may also be the name of a model on the Hub: :func:`.local_model`.
    """
    path = local_model(path)
    if path.is_file():
        return False
    return weight_files.is_packed(open_shards(path)[0])


def make_backend(
    name: str, activation_bits: ActivationBits = 8, dtype: torch.dtype = torch.float32,
) -> Backend:
    """Return the backend of that name; raise ValueError if there is none."""
    if name == "reference":
        return ReferenceBackend(dtype)
    if name in INTEGER_BACKENDS:
        return INTEGER_BACKENDS[name](activation_bits)
    raise ValueError(f"backend must be reference, {', '.join(INTEGER_BACKENDS)} or an "
                     f"object of class Backend, not {name!r}")


def _load_packed(
    path: Path, backend: Backend, dtype: torch.dtype, progress: Callable[[str], None] | None,
) -> PreTrainedModel:
    """Load a packed model as from_pretrained does, then let the backend read its matrices."""
    checkpoint = PackedCheckpoint(path)
    config = read_config(path, checkpoint.config)
    config.quantization_config = checkpoint.config["quantization_config"]
    with warnings.catch_warnings():
        # transformers warns that it heeds only a part of the argument, which is meant.
        warnings.filterwarnings("ignore", "You passed `quantization_config`")
        model = _from_pretrained(path, config, dtype, "pack the complete checkpoint",
                                 quantization_config=TritstreamConfig(backend=None))
    for name in checkpoint.matrices.keys() - vars(model)["hf_quantizer"].places.values():
        raise CheckpointError(f"packed matrix {name} {checkpoint.matrices[name].shape} is no "
                              f"linear layer of {type(model).__name__}; pack the model again")
    set_backend(model, backend, progress)
    return model


def _from_pretrained(
    path: Path, config: PreTrainedConfig, dtype: torch.dtype, advice: str, **options: Any,
) -> PreTrainedModel:
    """Build and read a model by transformers; raise if a tensor of the model is missing."""
    kind = model_class(path, config)
    with _converted(path) as folder, no_bars(), built(path):
        settings, others = read_settings(folder)
        # With loading info, transformers returns a pair, which its annotations leave out.
        model, report = cast(tuple[PreTrainedModel, dict[str, Any]], kind.from_pretrained(
            folder, config=config, dtype=dtype, local_files_only=True, use_safetensors=True,
            output_loading_info=True, generation_config=settings, **options))
    model.generation_config.__dict__.update(others)
    for name in sorted([*report["missing_keys"], *report["mismatched_keys"]], key=str):
        raise CheckpointError(f"{path}: {name} of the model is missing or of another shape; "
                              f"{advice}")
    return model

