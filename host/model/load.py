"""Causal language models of transformers, from original, exported and packed checkpoints."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationConfigMixin

from golden.checkpoint import QUANT_METHOD, SCALES_SUFFIX, TRITS_SUFFIX, PackedCheckpoint
from golden.convert import convert
from golden.diagnosis import about_file
from golden.job import write_json
from golden.quantize import row_dequantizer
from golden.shards import CheckpointError
from golden.sources import CONFIG, open_shards, open_source
from golden.verify import check_sum
from host.model.backends import ActivationBits, Backend, GoldenBackend, ReferenceBackend
from host.model.finite import stop_at_non_finite
from host.model.linear import TritEmbedding, TritLinear
from host.model.settings import read_settings

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

    Its layers check their values: :func:`host.model.finite.stop_at_non_finite`.

    Parameters
    ----------
    path : path
        Directory of a checkpoint in safetensors: original, exported or packed; or a GGUF file,
        which is written as a temporary directory first.
    backend : str or Backend
        What multiplies packed matrices: ``reference``, dequantized weights in ``dtype``;
        ``golden``, the integers of :mod:`golden.gemv`; or a backend ready made, as
        :class:`host.model.backends.DeviceBackend`. An unpacked model has ``reference`` only.
    activation_bits : int or mapping
        8 or 16, or either by module name, for ``golden``.
    dtype : torch.dtype
        Of everything that is not packed.
    progress : callable, optional
        Gets the name of each packed matrix when it is ready.

    Raises :class:`ValueError` for a wrong backend and :class:`golden.shards.CheckpointError` for a
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
    with _converted(path) as folder, _no_bars(), _built(path):
        settings, others = read_settings(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True,
            generation_config=settings)
    model.generation_config.__dict__.update(others)
    stop_at_non_finite(model)
    return model.eval()


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint directory, packed or not, or of a GGUF file.

    Raises :class:`golden.shards.CheckpointError` when it has none, or a damaged one.
    """
    check_path(path)
    with _converted(path, weights=False) as folder:
        if not any((folder / name).is_file() for name in _TOKENIZERS):
            raise CheckpointError(f"{path}: has no tokenizer; copy tokenizer.json and "
                                  "tokenizer_config.json of the model there")
        _check_texts(folder)
        with _read_by_others(f"{path}: its tokenizer cannot be read", "copy it again"):
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@contextmanager
def _converted(path: str | Path, weights: bool = True) -> Iterator[Path]:
    """Directory of a checkpoint; for a GGUF file a temporary one, with or without the weights."""
    if not Path(path).is_file():
        yield Path(path)
        return
    source = open_source(path)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
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
    settings, others = read_settings(path)
    with _built(path):
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    shapes = {name: list(info.shape) for name, info in checkpoint.matrices.items()}
    config.quantization_config = {"quant_method": QUANT_METHOD, "shapes": shapes}
    with _no_bars(), _built(path):
        model, report = AutoModelForCausalLM.from_pretrained(
            path, config=config, dtype=dtype, local_files_only=True, use_safetensors=True,
            output_loading_info=True, generation_config=settings)
    model.generation_config.__dict__.update(others)
    for name in sorted([*report["missing_keys"], *report["mismatched_keys"]]):
        raise CheckpointError(f"{path}: {name} of the model is missing or of another shape; pack "
                              "the model again")
    for name in checkpoint.matrices:
        _fill(model, name, checkpoint, backend, dtype)
        if progress:
            progress(name)
    stop_at_non_finite(model)
    return model.eval()


def _built(path: str | Path) -> AbstractContextManager[None]:
    return _read_by_others(f"{path}: transformers cannot build the model", "check its config.json")


@contextmanager
def _read_by_others(what: str, advice: str) -> Iterator[None]:
    """Errors of readers that are not ours, which have no common base, as one of ours."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{what} ({reason}); {advice}") from None


def _fill(
    model: PreTrainedModel, name: str, checkpoint: PackedCheckpoint, backend: Backend,
    dtype: torch.dtype,
) -> None:
    """Give a layer its matrix, and that of an embedding to a head that shares it."""
    layer = model.get_submodule(name)
    if isinstance(layer, TritEmbedding):
        layer.rows, layer.dtype = row_dequantizer(checkpoint.matrix(name)), dtype
        layer = model.get_output_embeddings()
        if not isinstance(layer, TritLinear) or layer.product is not None:
            return
    layer.product = backend.prepare(checkpoint, name)


def _check_sums(checkpoint: PackedCheckpoint) -> None:
    """Raise unless every byte is what was packed: damage would show as poor text only."""
    for shard in checkpoint.shards.values():
        for tensor in shard.tensors.values():
            for finding in check_sum(tensor, checkpoint.checksums[tensor.name]):
                raise CheckpointError(f"{tensor.path}: {finding.tensor}: {finding.message}; copy "
                                      "it again")


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars: those of a command are its own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@register_quantization_config(QUANT_METHOD)
class _Shapes(QuantizationConfigMixin):
    """What transformers is told of the packed matrices: their shapes by module name."""

    def __init__(self, quant_method: str, shapes: dict[str, list[int]], **_):
        self.quant_method = quant_method
        self.shapes = shapes


@register_quantizer(QUANT_METHOD)
class _Quantizer(HfQuantizer):
    """Puts layers of :mod:`host.model.linear` in place of packed ones before weights are read."""

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_):
        for name, shape in self.quantization_config.shapes.items():
            _replace(model, name, tuple(shape))
        ends = "|".join(end.replace(".", r"\.") for end in (TRITS_SUFFIX, SCALES_SUFFIX))
        model._keys_to_ignore_on_load_unexpected.add(f"({ends})$")

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


def _replace(model: PreTrainedModel, name: str, shape: tuple[int, int]) -> None:
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        layer = None
    if isinstance(layer, nn.Embedding) and tuple(layer.weight.shape) == shape:
        model.set_submodule(name, TritEmbedding(*shape))
        if model.config.tie_word_embeddings:
            model.config.tie_word_embeddings = False
            model.all_tied_weights_keys = {
                target: source for target, source in model.all_tied_weights_keys.items()
                if source != f"{name}.weight"}
            model.set_output_embeddings(TritLinear(shape[1], shape[0], bias=False))
        return
    if not isinstance(layer, nn.Linear) or (layer.out_features, layer.in_features) != shape:
        raise CheckpointError(f"packed matrix {name} {shape} is no linear layer of the model "
                              f"({layer}); pack the model again")
    model.set_submodule(name, TritLinear(shape[1], shape[0], layer.bias is not None))
