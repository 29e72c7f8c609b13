"""Causal language models of transformers, from original, exported and packed checkpoints."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from tritstream.golden.cache_place import scratch
from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.diagnosis import about_file
from tritstream.golden.checkpoints.directory import open_shards
from tritstream.golden.checkpoints.source import CONFIG
from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.directory_job import write_json
from tritstream.golden.matrix import row_dequantizer
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.reader import (
    QUANT_METHOD,
    SCALES_SUFFIX,
    TRITS_SUFFIX,
    PackedCheckpoint,
)
from tritstream.golden.packed.verify import check_sum
from tritstream.host.model.backends import ActivationBits, Backend, GoldenBackend, ReferenceBackend
from tritstream.host.model.finite import stop_at_non_finite
from tritstream.host.model.linear import TritEmbedding, TritLinear
from tritstream.host.model.settings import read_settings
from tritstream.host.model.skeleton import (
    TensorNames,
    built,
    model_class,
    no_bars,
    read_by_others,
    read_config,
    unfit,
)

__all__ = ["check_path", "is_packed", "load_model", "load_tokenizer", "make_backend"]

#: Files of which a tokenizer has one.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
#: Files of a tokenizer, which others read.
_TEXTS = (*_TOKENIZERS, "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
          "added_tokens.json", "chat_template.jinja")


def load_model(
    path: str | Path, *, backend: str | Backend = "reference", activation_bits: ActivationBits = 8,
    dtype: torch.dtype = torch.float32, progress: Callable[[str], None] | None = None,
) -> PreTrainedModel:
    """Load the model of a Hugging Face directory, a packed one or a GGUF file, for inference.

    Its layers check their values: :func:`tritstream.host.model.finite.stop_at_non_finite`.

    Parameters
    ----------
    path : path
        Directory of a checkpoint in safetensors: original, exported or packed; or a GGUF file,
        which is written as a temporary directory first.
    backend : str or Backend
        What multiplies packed matrices: ``reference``, dequantized weights in ``dtype``;
        ``golden``, the integers of :mod:`tritstream.golden.gemv`; or a backend ready made, as
        :class:`.DeviceBackend`. An unpacked model has ``reference`` only.
    activation_bits : int or mapping
        8 or 16, or either by module name, for ``golden``.
    dtype : torch.dtype
        Of everything that is not packed.
    progress : callable, optional
        Gets the name of each packed matrix when it is ready.

    Raises :class:`ValueError` for a wrong backend and :class:`.CheckpointError` for a
    checkpoint that does not do.
    """
    if isinstance(backend, str):
        backend = make_backend(backend, activation_bits, dtype)
    check_path(path)
    if is_packed(path):
        return _load_packed(Path(path), backend, dtype, progress)
    if not isinstance(backend, ReferenceBackend):
        raise ValueError(f"{path}: not packed, so only the reference backend can run it; "
                         "`tritstream quantize` packs it")
    fields = open_source(path).config if Path(path).is_file() else open_shards(Path(path))[0]
    advice = "complete the checkpoint, or correct its config.json"
    model = _from_pretrained(Path(path), read_config(Path(path), fields), dtype, advice)
    stop_at_non_finite(model)
    return model.eval()


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint directory, packed or not, or of a GGUF file.

    Raises :class:`tritstream.golden.errors.CheckpointError` when it has none, or a damaged one.
    """
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
    """Directory of a checkpoint; for a GGUF file a temporary one, with or without the weights."""
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
    """Raise :class:`CheckpointError` for a path that the readers of transformers cannot open."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{path}: transformers opens paths in UTF-8 only; rename the "
                              "directory") from None


def _check_texts(path: Path) -> None:
    """Raise for a file of a tokenizer that is not what its name says."""
    for name in _TEXTS:
        if (path / name).is_file():
            with (path / name).open("rb") as file:
                if found := about_file(file.read(256)):
                    raise CheckpointError(f"{path / name}: {found}")


def is_packed(path: str | Path) -> bool:
    """Whether a checkpoint is a packed one; a GGUF file is not."""
    if Path(path).is_file():
        return False
    config, _, _ = open_shards(Path(path))
    fields = config.get("quantization_config")
    return isinstance(fields, dict) and fields.get("quant_method") == QUANT_METHOD


def make_backend(
    name: str, activation_bits: ActivationBits = 8, dtype: torch.dtype = torch.float32,
) -> Backend:
    """The ``reference`` or the ``golden`` backend; raises :class:`ValueError` for another."""
    if name == "reference":
        return ReferenceBackend(dtype)
    if name == "golden":
        return GoldenBackend(activation_bits)
    raise ValueError(f"backend must be reference, golden or a Backend ready made, not {name!r}")


def _load_packed(
    path: Path, backend: Backend, dtype: torch.dtype, progress: Callable[[str], None] | None,
) -> PreTrainedModel:
    """Let transformers build the model and read what is not packed, then the backend the rest."""
    checkpoint = PackedCheckpoint(path)
    _check_sums(checkpoint)
    config = read_config(path, checkpoint.config)
    shapes = {name: list(info.shape) for name, info in checkpoint.matrices.items()}
    config.quantization_config = {
        "quant_method": QUANT_METHOD, "shapes": shapes, "kept": list(checkpoint.kept)}
    model = _from_pretrained(path, config, dtype, "pack the complete checkpoint")
    layers = [layer for layer in model.modules() if isinstance(layer, TritLinear | TritEmbedding)]
    for name in checkpoint.matrices:
        for layer in layers:
            if layer.matrix == name:
                _fill(layer, checkpoint, backend, dtype)
        if progress:
            progress(name)
    stop_at_non_finite(model)
    return model.eval()


def _from_pretrained(
    path: Path, config: PreTrainedConfig, dtype: torch.dtype, advice: str,
) -> PreTrainedModel:
    """Let transformers build and read a model, all of whose tensors must be there."""
    kind = model_class(path, config)
    with _converted(path) as folder, no_bars(), built(path):
        settings, others = read_settings(folder)
        model, report = kind.from_pretrained(
            folder, config=config, dtype=dtype, local_files_only=True, use_safetensors=True,
            output_loading_info=True, generation_config=settings)
    model.generation_config.__dict__.update(others)
    for name in sorted([*report["missing_keys"], *report["mismatched_keys"]], key=str):
        raise CheckpointError(f"{path}: {name} of the model is missing or of another shape; "
                              f"{advice}")
    return model


def _fill(
    layer: TritLinear | TritEmbedding, checkpoint: PackedCheckpoint, backend: Backend,
    dtype: torch.dtype,
) -> None:
    """Give a layer its matrix."""
    layer.dtype = dtype
    if isinstance(layer, TritEmbedding):
        layer.rows = row_dequantizer(checkpoint.matrix(layer.matrix))
    else:
        layer.product = backend.prepare(checkpoint, layer.matrix)


def _check_sums(checkpoint: PackedCheckpoint) -> None:
    """Raise unless every byte is what was packed: damage would show as poor text only."""
    for shard in checkpoint.shards.values():
        for tensor in shard.tensors.values():
            for finding in check_sum(tensor, checkpoint.checksums[tensor.name]):
                raise CheckpointError(f"{tensor.path}: {finding.tensor}: {finding.message}; copy "
                                      "it again")


@register_quantization_config(QUANT_METHOD)
class _Shapes(QuantizationConfigMixin):
    """What transformers is told: shapes of packed matrices by module name, kept tensors."""

    def __init__(self, quant_method: str, shapes: dict[str, list[int]], kept: list[str], **_):
        self.quant_method = quant_method
        self.shapes, self.kept = shapes, kept


@register_quantizer(QUANT_METHOD)
class _Quantizer(HfQuantizer):
    """Puts layers of :mod:`tritstream.host.model.linear` in place of packed ones before weights are read."""

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_):
        names, found = TensorNames(model), self.quantization_config
        places = {name: names.find(f"{name}.weight")[0] for name in found.shapes}
        stored = {names.find(name)[0] for name in found.kept} | {*places.values()}
        for name, shape in found.shapes.items():
            place = places[name].removesuffix(".weight")
            _replace(model, place, name, tuple(shape))
            _untie(model, place, name, stored)
        ends = "|".join(end.replace(".", r"\.") for end in (TRITS_SUFFIX, SCALES_SUFFIX))
        model._keys_to_ignore_on_load_unexpected.add(f"({ends})$")

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


def _replace(model: PreTrainedModel, place: str, name: str, shape: tuple[int, int]) -> None:
    """Put a layer without weights where the module of a matrix is."""
    try:
        layer = model.get_submodule(place)
    except AttributeError:
        layer = None
    if unfit(layer, shape):
        raise CheckpointError(f"packed matrix {name} {shape} is no linear layer of the model "
                              f"({layer}); pack the model again")
    if isinstance(layer, nn.Embedding):
        model.set_submodule(place, TritEmbedding(*shape, name))
    else:
        model.set_submodule(place, TritLinear(shape[1], shape[0], layer.bias is not None, name))


def _untie(model: PreTrainedModel, place: str, name: str, stored: set[str]) -> None:
    """Give a module that is tied to a packed one the same matrix, unless it has its own weights."""
    tied = model.all_tied_weights_keys
    others = [target if source == f"{place}.weight" else source for target, source in tied.items()
              if f"{place}.weight" in (target, source)]
    model.all_tied_weights_keys = {target: source for target, source in tied.items()
                                   if f"{place}.weight" not in (target, source)}
    for other in others:
        model.config.tie_word_embeddings = False
        module = other.removesuffix(".weight")
        if other not in stored:
            _replace(model, module, name, tuple(model.get_submodule(module).weight.shape))
