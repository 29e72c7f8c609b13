"""Model loader of vLLM for packed checkpoints: ``--load-format tritstream``."""

import time
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import snapshot_download
from torch import Tensor, nn
from vllm.config import ModelConfig
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.vllm_plugin.weights import plain_weights

__all__ = ["TritstreamModelLoader"]

#: Files of a packed checkpoint that hold weights, or name the files that do.
_FILES = ["*.json", "*.safetensors"]
_EXPORT = "run tritstream export, and give vLLM the exported directory without --load-format"


class TritstreamModelLoader(DefaultModelLoader):
    """Loader that gives a model of vLLM the dequantized weights of a packed checkpoint.

    The default loader refuses such a directory, because model.safetensors.index.json names a file
    that does not exist (see :mod:`tritstream.golden.checkpoints.weight_files`).
    """

    enable_weights_track: bool | None

    def __init__(self, load_config: LoadConfig):
        super().__init__(load_config)
        if self.enable_weights_track is None:
            # By default vLLM leaves parameters of a quantized model that no tensor was loaded into
            # as they are, which is random memory.
            self.enable_weights_track = True

    def download_model(self, model_config: ModelConfig) -> None:
        """Download a model from the hub, if it is not a local directory."""
        self._directory(model_config)

    def get_all_weights(
        self, model_config: ModelConfig, model: nn.Module,
    ) -> Iterator[tuple[str, Tensor]]:
        """Return the names and the weights of a plain checkpoint, :func:`.plain_weights`.

        Raises :class:`.CheckpointError` if the checkpoint is no packed checkpoint, or is one that
        vLLM would not load completely.
        """
        packed = PackedCheckpoint(self._directory(model_config))
        _check(packed, model_config, model)
        self.counter_before_loading_weights = time.perf_counter()
        return plain_weights(packed)

    def _directory(self, model_config: ModelConfig) -> Path:
        if Path(model_config.model).is_dir():
            return Path(model_config.model)
        return Path(snapshot_download(
            model_config.model, revision=model_config.revision,
            cache_dir=self.load_config.download_dir, allow_patterns=_FILES,
            ignore_patterns=self.load_config.ignore_patterns))


def _check(packed: PackedCheckpoint, model_config: ModelConfig, model: nn.Module) -> None:
    """Refuse a checkpoint whose model would lack weights without an error of vLLM."""
    if getattr(model, "secondary_weights", ()):
        raise CheckpointError(f"{packed.path}: {type(model).__name__} also loads weights of "
                              f"another checkpoint, which is not supported; {_EXPORT}")
    tied = getattr(model_config.hf_config, "tie_word_embeddings", False)
    heads = [name for name in packed.matrices if name.endswith("lm_head")]
    if tied and heads:
        raise CheckpointError(f"{packed.path}: {heads[0]} is packed, but config.json ties it "
                              "to the embeddings, and vLLM would not load it; set "
                              f"tie_word_embeddings to false in config.json, or {_EXPORT}")
