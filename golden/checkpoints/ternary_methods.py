"""Directories of models that were trained ternary: ``quant_method`` bitnet, and MLX at 2 bits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tritstream.golden.activation import BITNET
from tritstream.golden.checkpoints.safetensors_reader import FLOATS, Shard, Tensor
from tritstream.golden.checkpoints.scaled_bias import ScaledBias
from tritstream.golden.checkpoints.sharding import Part
from tritstream.golden.checkpoints.source_tensor import SourceTensor
from tritstream.golden.checkpoints.ternary_tensors import (
    AffineTensor,
    CodedTensor,
    LevelTensor,
    OnlineTensor,
)
from tritstream.golden.errors import CheckpointError
from tritstream.golden.inputs import Inputs
from tritstream.golden.model_sizes import Sizes

__all__ = ["dequantized"]

_ORIGINAL = "use another copy of the model"
#: Members of config.json that describe the quantization.
_BITNET, _MLX = "quantization_config", "quantization"
_SCALE = ".weight_scale"
#: File in which MLX describes a rotation of activations.
_ROTATION = "hadamard.json"


def dequantized(
    path: Path, config: dict, shards: Mapping[str, Shard],
) -> tuple[dict, dict[str, Part], Inputs] | None:
    """Return configuration, shards and inputs of a ternary model without its quantization.

    Matrices are float32 and hold exactly the values that the model computes with. Returns None for
    a checkpoint of another kind.

    Raises :class:`.CheckpointError` for a model of this kind that cannot be read exactly.
    """
    for reader in (_Bitnet, _Mlx):
        if reader.reads(config):
            found = reader(path, config, shards)
            parts = {file: Part(shard.metadata, found.tensors(shard))
                     for file, shard in shards.items()}
            plain = {key: value for key, value in config.items() if key not in (_BITNET, _MLX)}
            return plain, parts, reader.inputs
    return None


class _Reader(ABC):
    """Reader of one kind of ternary checkpoint. ``inputs`` is what its models do with inputs."""

    inputs = Inputs()

    def __init__(self, path: Path, config: dict, shards: Mapping[str, Shard]):
        self._path, self._config = path, config
        self._stored = {name: tensor for shard in shards.values()
                        for name, tensor in shard.tensors.items()}

    def tensors(self, shard: Shard) -> dict[str, SourceTensor]:
        """Return the tensors of a shard, dequantized; scales are not tensors of the model."""
        found = {name: self._tensor(tensor) for name, tensor in shard.tensors.items()}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    @abstractmethod
    def _tensor(self, tensor: Tensor) -> SourceTensor | None:
        """Return a tensor of the model, or None for a scale."""

    def _refuse(self, fault: str, advice: str = _ORIGINAL) -> CheckpointError:
        return CheckpointError(f"{self._path}: {fault}; {advice}")


class _Bitnet(_Reader):
    """Reader of ``quant_method`` bitnet, whose scale has two directions.

    A ``bitlinear`` layer, the default, divides by its scale, an ``autobitlinear`` layer multiplies.
    """

    inputs = Inputs(activations=BITNET)

    def __init__(self, path: Path, config: dict, shards: Mapping[str, Shard]):
        super().__init__(path, config, shards)
        fields = config[_BITNET]
        kind, mode = fields.get("linear_class", "bitlinear"), fields.get("quantization_mode",
                                                                         "offline")
        if kind not in ("bitlinear", "autobitlinear") or mode not in ("offline", "online"):
            raise self._refuse(f"bitnet with linear_class {kind!r} and quantization_mode {mode!r} "
                               "is not known")
        if fields.get("use_rms_norm"):
            raise self._refuse("bitnet with use_rms_norm, a norm in each linear layer, is not "
                               "supported", "use a model without it")
        self._divides, self._online = kind == "bitlinear", mode == "online"
        self._kept = fields.get("modules_to_not_convert") or ["lm_head"]
        self._rows = _rows_by_name(config)

    @staticmethod
    def reads(config: dict) -> bool:
        fields = config.get(_BITNET)
        return isinstance(fields, dict) and fields.get("quant_method") == "bitnet"

    def _tensor(self, tensor: Tensor) -> SourceTensor | None:
        if tensor.name.endswith(_SCALE):
            return None
        scale = self._stored.get(tensor.name.removesuffix(".bias") + _SCALE)
        if scale and not self._divides:
            return ScaledBias(tensor, scale)
        if not tensor.name.endswith(".weight") or len(tensor.shape) != 2:
            return tensor
        module = tensor.name.removesuffix(".weight")
        if module + _SCALE in self._stored:
            return self._scaled(tensor, self._scale(self._stored[module + _SCALE]))
        if tensor.dtype == "U8":
            raise self._refuse(f"{tensor.name} is packed, but has no {module}{_SCALE}")
        if not self._online or self._is_kept(module):
            return tensor
        if module.rpartition(".")[2] not in self._rows:
            raise self._refuse(f"bitnet with quantization_mode 'online': it is not known whether "
                               f"{tensor.name} is rounded", "use a model in mode offline")
        return OnlineTensor(tensor, tensor.shape)

    def _scaled(self, tensor: Tensor, scale: Tensor) -> SourceTensor:
        if tensor.dtype != "U8":
            return LevelTensor(tensor, tensor.shape, scale, self._divides)
        rows = self._rows.get(tensor.name.split(".")[-2], 4 * tensor.shape[0])
        if -(-rows // 4) != tensor.shape[0]:
            raise self._refuse(f"{tensor.name} has {tensor.shape[0]} rows of four, but the model "
                               f"has {rows} rows")
        return CodedTensor(tensor, (rows, tensor.shape[1]), scale, self._divides)

    def _scale(self, tensor: Tensor) -> Tensor:
        values = tensor.read().ravel() if tensor.dtype in FLOATS else np.empty(0)
        scale = values.astype(np.float32)
        if scale.shape != (1,) or not np.isfinite(scale[0]) or scale[0] <= 0:
            raise self._refuse(f"{tensor.name} must be one positive number")
        return tensor

    def _is_kept(self, module: str) -> bool:
        return "embed" in module or any(name in module for name in self._kept)


class _Mlx(_Reader):
    """Reader of MLX checkpoints with 2 bits per weight."""

    def __init__(self, path: Path, config: dict, shards: Mapping[str, Shard]):
        super().__init__(path, config, shards)
        fields = config[_MLX]
        modules = [value for value in fields.values() if isinstance(value, dict)]
        bits = {module.get("bits") for module in [fields, *modules]}
        if bits != {2} or fields.get("mode", "affine") != "affine":
            raise self._refuse(f"quantized by MLX with {sorted(map(str, bits))} bits, of which "
                               "only 2 can be ternary", "use the original checkpoint")
        if (path / _ROTATION).exists():
            raise self._refuse(f"has {_ROTATION}: this model rotates its activations, which is not "
                               "supported for MLX", "use its GGUF file")

    @staticmethod
    def reads(config: dict) -> bool:
        fields = config.get(_MLX)
        return isinstance(fields, dict) and "group_size" in fields

    def _tensor(self, tensor: Tensor) -> SourceTensor | None:
        module, _, kind = tensor.name.rpartition(".")
        stored = self._stored.get(f"{module}.weight")
        if stored is None or stored.dtype != "U32":
            return tensor
        if kind in ("scales", "biases"):
            return None
        if kind != "weight":
            return tensor
        scales, biases = (self._stored.get(f"{module}.{name}") for name in ("scales", "biases"))
        shape = (stored.shape[0], 16 * stored.shape[-1])
        if (scales is None or biases is None or scales.shape != biases.shape
                or len(scales.shape) != 2 or scales.shape[0] != shape[0]
                or not scales.shape[1] or shape[1] % scales.shape[1]):
            raise self._refuse(f"{tensor.name} has no scales and biases that go with its shape")
        return AffineTensor(stored, shape, scales, biases)


def _rows_by_name(config: dict) -> dict[str, int]:
    """Return the rows of the linear modules of a layer by the last part of their names."""
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        sizes = Sizes(1, hidden, config["intermediate_size"], heads,
                      config.get("num_key_value_heads") or heads,
                      config.get("head_dim") or hidden // heads, 1)
        return {name.rpartition(".")[2]: rows for name, (rows, _) in sizes.linear().items()}
    except (KeyError, TypeError, ZeroDivisionError):
        return {}
