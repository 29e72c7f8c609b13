"""Registration with transformers, which loads packed models by these hooks.

The hooks are imported while transformers itself is, so they import everything else when they run.
"""

import weakref
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from transformers.quantizers import auto
from transformers.quantizers.base import HfQuantizer

from tritstream.golden.checkpoints.weight_files import QUANT_METHOD, REFUSAL_FIELD, WEIGHTS
from tritstream.host.model.config import TritstreamConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from tritstream.host.model.dequantizing import Dequantize
    from tritstream.host.model.held import HeldCheckpoint

__all__ = ["TritstreamQuantizer"]


class TritstreamQuantizer(HfQuantizer):
    """Replaces modules by layers of :mod:`tritstream.host.model.linear` before weights are read.

    Members
    -------
    checkpoint : HeldCheckpoint
        Packed checkpoint that the model is loaded from.
    places : dict
        Name of the packed matrix by module of the model.
    """

    quantization_config: TritstreamConfig
    checkpoint:          "HeldCheckpoint"
    places:              dict[str, str]
    _remove:             Callable[[], object] = staticmethod(lambda: None)
    _operation:          "Dequantize"

    def validate_environment(self, *_: object, device_map: object = None, **__: object) -> None:
        """Refuse a device map that leaves weights on the disk."""
        places = device_map.values() if isinstance(device_map, dict) else [device_map]
        if "disk" in places:
            raise ValueError("packed layers cannot stay on the disk; leave \"disk\" out of "
                             "device_map")

    def update_attn_implementation(self, config: "PreTrainedConfig") -> "PreTrainedConfig":
        """Tell transformers the name of the weights, in place of the sign that refuses them.

        This is the one hook that gets the configuration before the weights are looked for.
        """
        if self.pre_quantized:
            setattr(config, REFUSAL_FIELD, self.quantization_config.fields.get(WEIGHTS))
        return config

    def _process_model_before_weight_loading(
        self, model: "PreTrainedModel", checkpoint_files: list[str] | None = None, **_: object,
    ) -> None:
        from tritstream.host.model.held import open_checkpoint, pack_plain
        from tritstream.host.model.replacement import replace_layers

        if not checkpoint_files:
            raise ValueError("a packed model is loaded from files, not from a state_dict")
        if not self.pre_quantized:
            scratch = mkdtemp(prefix="tritstream-")
            self._remove = weakref.finalize(self, rmtree, scratch)
            checkpoint_files[:] = pack_plain(Path(checkpoint_files[0]).parent,
                                             Path(scratch) / "packed", self.quantization_config)
            self.pre_quantized = True
        dequantize = self.quantization_config.dequantize
        self.checkpoint = open_checkpoint(Path(checkpoint_files[0]).parent, matrices=dequantize)
        self.quantization_config.fields = self.checkpoint.config["quantization_config"]
        self.places = replace_layers(model, self.checkpoint, keep=dequantize)

    def get_weight_conversions(self) -> list:
        """Return the converter that dequantizes, if plain weights are asked for."""
        from transformers.core_model_loading import WeightConverter

        from tritstream.host.model.dequantizing import Dequantize

        if not self.quantization_config.dequantize:
            return []
        self._operation = Dequantize(self)
        return [WeightConverter([r"\.trits$", r"\.scales$"], ".weight", [self._operation])]

    def update_weight_conversions(
        self, weight_conversions: list, model: "PreTrainedModel",
    ) -> list:
        """Let the model's converters pass over packed matrices, which are not merged."""
        from tritstream.host.model.merging import pass_over_packed

        updated = super().update_weight_conversions(weight_conversions, model)
        if not self.quantization_config.dequantize:
            pass_over_packed(updated)
        return updated

    def _process_model_after_weight_loading(self, model: "PreTrainedModel", **_: object) -> None:
        from tritstream.host.model.finite import stop_at_non_finite
        from tritstream.host.model.held import hold
        from tritstream.host.model.packed import start_backend
        from tritstream.host.model.saving import save_as_packed

        self._remove()
        setattr(model.config, REFUSAL_FIELD, None)
        if self.quantization_config.dequantize:
            self._operation.check_complete()
            return
        hold(model, self.checkpoint)
        save_as_packed(model)
        start_backend(model, self.quantization_config)
        stop_at_non_finite(model)

    def is_serializable(self) -> bool:
        """Return True: ``save_pretrained`` writes a packed checkpoint."""
        return True

    @property
    def is_trainable(self) -> bool:
        """False: packed weights have no gradients."""
        return False


auto.register_quantization_config(QUANT_METHOD)(TritstreamConfig)
auto.register_quantizer(QUANT_METHOD)(TritstreamQuantizer)
# Only for these classes, transformers heeds the argument of from_pretrained for a packed model.
vars(auto)["LOADING_ATTRIBUTES_CONFIG_TYPES"] += (TritstreamConfig,)
