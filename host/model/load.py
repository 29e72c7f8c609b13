"""Causal language models of transformers, from original, exported and packed checkpoints."""

from collections.abc import Callable
from pathlib import Path

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
from transformers.utils.quantization_config import QuantizationConfigMixin

from golden.checkpoint import QUANT_METHOD, SCALES_SUFFIX, TRITS_SUFFIX, PackedCheckpoint
from golden.shards import CheckpointError
from golden.sources import open_shards
from host.model.backends import BACKENDS, Backend, GoldenBackend, ReferenceBackend
from host.model.linear import TritLinear

__all__ = ["is_packed", "load_model", "load_packed", "load_tokenizer"]


def load_model(
    path: str | Path, *, backend: str = "reference", device=None, activation_bits: int = 8,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Load the model of a Hugging Face directory or of a packed one, ready for inference.

    Parameters
    ----------
    path : path
        Directory of a checkpoint in safetensors: original, exported or packed.
    backend : str
        What multiplies packed matrices: ``reference``, dequantized weights in ``dtype``;
        ``golden``, the integers of :mod:`golden.gemv`. An unpacked model has ``reference`` only.
    activation_bits : int
        8 or 16, for the integer backends.
    dtype : torch.dtype
        Of everything that is not packed.

    Raises :class:`ValueError` for a wrong backend and :class:`golden.shards.CheckpointError` for a
    checkpoint that does not do.
    """
    made = _make_backend(backend, activation_bits, dtype)
    if is_packed(path):
        return load_packed(path, made, dtype=dtype)
    if backend != "reference":
        raise ValueError(f"{path}: not packed, so backend {backend!r} has nothing to multiply; "
                         "use the reference backend, or quantize the model first")
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True).eval()


def load_packed(
    path: str | Path, backend: Backend, *, dtype: torch.dtype = torch.float32,
    progress: Callable[[str], None] | None = None,
) -> PreTrainedModel:
    """Load a packed checkpoint; ``backend`` gets one matrix after the other.

    transformers builds the model on the meta device and reads the kept tensors; no dequantized
    matrix is made but by the backend. ``progress`` gets the name of each matrix when it is ready.

    Raises :class:`golden.shards.CheckpointError` when checkpoint and model do not agree.
    """
    checkpoint = PackedCheckpoint(path)
    config = AutoConfig.from_pretrained(path, local_files_only=True)
    shapes = {name: list(info.shape) for name, info in checkpoint.matrices.items()}
    config.quantization_config = {"quant_method": QUANT_METHOD, "shapes": shapes}
    model, report = AutoModelForCausalLM.from_pretrained(
        path, config=config, dtype=dtype, local_files_only=True, output_loading_info=True)
    for fault in ("missing_keys", "mismatched_keys"):
        if report[fault]:
            raise CheckpointError(f"{path}: {min(report[fault])} of the model is not in it as it "
                                  "should be; pack the model again")
    for name in checkpoint.matrices:
        model.get_submodule(name).product = backend.prepare(checkpoint, name)
        if progress:
            progress(name)
    return model.eval()


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint directory, packed or not.

    Raises :class:`golden.shards.CheckpointError` when it has none.
    """
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path}: no tokenizer can be loaded ({reason}); copy "
                              "tokenizer.json and tokenizer_config.json there") from None


def is_packed(path: str | Path) -> bool:
    """Whether a checkpoint directory is a packed one."""
    config, _, _ = open_shards(Path(path))
    fields = config.get("quantization_config")
    return isinstance(fields, dict) and fields.get("quant_method") == QUANT_METHOD


def _make_backend(name: str, activation_bits: int, dtype: torch.dtype) -> Backend:
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {name!r}")
    return GoldenBackend(activation_bits) if name == "golden" else ReferenceBackend(dtype)


@register_quantization_config(QUANT_METHOD)
class _Shapes(QuantizationConfigMixin):
    """What transformers is told of the packed matrices: their shapes by module name."""

    def __init__(self, quant_method: str, shapes: dict[str, list[int]], **_):
        self.quant_method = quant_method
        self.shapes = shapes


@register_quantizer(QUANT_METHOD)
class _Quantizer(HfQuantizer):
    """Puts a :class:`TritLinear` in place of each packed layer before weights are read."""

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
    parent, _, child = name.rpartition(".")
    try:
        linear = model.get_submodule(name)
    except AttributeError:
        linear = None
    if not isinstance(linear, nn.Linear) or (linear.out_features, linear.in_features) != shape:
        raise CheckpointError(f"packed matrix {name} {shape} is no linear layer of the model "
                              f"({linear}); pack the model again")
    packed = TritLinear(linear.in_features, linear.out_features, linear.bias is not None)
    setattr(model.get_submodule(parent), child, packed)
