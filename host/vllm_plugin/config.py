"""Quantization method of vLLM for packed checkpoints."""

from typing import Any

import torch
from torch import nn
from vllm.config import get_current_vllm_config
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import (
    QuantizationConfig,
    QuantizeMethodBase,
)

from tritstream.golden.checkpoints.weight_files import QUANT_METHOD

__all__ = ["LOAD_FORMAT", "TritstreamQuantizationConfig"]

#: Load format of :class:`.TritstreamModelLoader`.
LOAD_FORMAT = QUANT_METHOD
#: Load formats with which a model can be made: packed files, and random weights.
_FORMATS = (LOAD_FORMAT, "dummy")


class TritstreamQuantizationConfig(QuantizationConfig):
    """Configuration that vLLM makes for a config.json whose ``quant_method`` is ``tritstream``.

    The loader gives vLLM plain weights, so all layers are those of a plain model. vLLM merges and
    splits plain weights by rows and columns itself, whatever the depths of the matrices are.
    """

    def get_name(self) -> str:
        """Return the name of the method."""
        return QUANT_METHOD

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        """Return the dtypes in which vLLM may run the model: those of a plain model."""
        return [torch.float16, torch.bfloat16, torch.float32]

    @classmethod
    def get_min_capability(cls) -> int:
        """Return the lowest compute capability of a GPU: any, there are no kernels of our own."""
        return 0

    @staticmethod
    def get_config_filenames() -> list[str]:
        """Return the names of files with further configuration: none, config.json has all of it."""
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TritstreamQuantizationConfig":
        """Return the configuration. The loader reads and checks the fields itself."""
        return cls()

    def get_quant_method(self, layer: nn.Module, prefix: str) -> "QuantizeMethodBase | None":
        """Return the method of a plain linear layer, or None for vLLM's default for other layers.

        Raises :class:`ValueError` if the weights would be loaded by another loader.
        """
        config = get_current_vllm_config()
        chosen = config.load_config.load_format
        if chosen not in _FORMATS:
            raise ValueError(f"{config.model_config.model}: packed weights need --load-format "
                             f"{LOAD_FORMAT} (LLM(..., load_format={LOAD_FORMAT!r})), not "
                             f"{chosen}")
        return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None
