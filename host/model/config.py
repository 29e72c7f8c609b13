"""Configuration of transformers for packed models: which backend multiplies, or how to pack."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from transformers.utils.quantization_config import QuantizationConfigMixin, QuantizationMethod

from tritstream.golden.checkpoints.weight_files import QUANT_METHOD
from tritstream.golden.fixed_point import half_range
from tritstream.golden.quantizers.grouping import GROUPING, Grouping
from tritstream.golden.quantizers.registry import DEFAULT, method_of

if TYPE_CHECKING:
    from tritstream.host.model.backends import ActivationBits, Backend, MatrixDevice

__all__ = ["TritstreamConfig"]

#: Parameters that say how a packed model runs. They are not stored with the model.
_LOADING = ("backend", "device", "activation_bits", "dequantize")


class TritstreamConfig(QuantizationConfigMixin):
    """Argument ``quantization_config`` of ``from_pretrained``, for packed and for plain models.

    The first four parameters apply to every model, and are not saved with it. The other parameters
    apply to a plain model, which is quantized while it is loaded; a packed model ignores them.

    Parameters
    ----------
    backend : str or Backend or None
        Backend for the products of packed matrices: ``golden`` (integers, in numpy), ``cpu`` or
        ``cuda`` (the same integers, from packed bytes), ``device`` (the same integers, from
        ``device``), ``reference`` (dequantized weights), or a :class:`.Backend`. None leaves the
        layers without one, for :func:`.set_backend`.
    device : str or MatrixDevice
        Device for the backend ``device``: a description for :func:`.open_device`, or an open one.
    activation_bits : int or mapping
        Bits per activation of integer products, 8 or 16: :data:`.ActivationBits`.
    dequantize : bool
        Whether to load plain weights instead, the ones that ``tritstream export`` writes.
    depth : int
        Trits per weight, 1..4.
    method : str
        Method of quantization, a key of :data:`.METHODS`.
    depths : mapping
        Depths by glob of module names. The last one that matches counts.
    group, scales : int, str
        Weights per scale, a multiple of 16, and kind of scales: ``coded`` or ``direct``.
    include, exclude : sequence of str
        Modules to quantize despite the defaults, and globs of modules to keep unquantized, as for
        :func:`.pack_checkpoint`.

    Raises :class:`ValueError` for an unknown depth, method, group length or kind of scales.

    Members
    -------
    fields : dict
        ``quantization_config`` of the packed checkpoint; empty until the model is packed.
    """

    def __init__(
        self, depth: int = 3, method: str = DEFAULT, *, backend: "str | Backend | None" = "golden",
        device: "str | MatrixDevice" = "sim", activation_bits: "ActivationBits" = 8,
        dequantize: bool = False, depths: Mapping[str, int] | None = None,
        include: Sequence[str] = (), exclude: Sequence[str] = (),
        group: int = GROUPING.group, scales: str = GROUPING.scales,
    ):
        half_range(depth)
        self.grouping = Grouping(group, scales)
        method_of(method, grouping=self.grouping)
        # transformers annotates its own methods, but accepts the name of any registered method.
        self.quant_method = cast(QuantizationMethod, QUANT_METHOD)
        self.backend, self.device, self.activation_bits = backend, device, activation_bits
        self.dequantize = dequantize
        self.depth, self.method, self.depths = depth, method, dict(depths or {})
        self.include, self.exclude = tuple(include), tuple(exclude)
        self.fields: dict[str, Any] = {}

    @classmethod
    def from_dict(cls, config_dict: dict, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """Return the configuration of a packed model, and unused keywords if they are asked for."""
        config = cls()
        config.fields = copy.deepcopy(dict(config_dict))
        unused = config.update(**kwargs)
        return (config, unused) if return_unused_kwargs else config

    def get_loading_attributes(self) -> dict[str, Any]:
        """Return the parameters that say how a packed model runs, by name."""
        return {name: getattr(self, name) for name in _LOADING}

    def to_dict(self) -> dict[str, Any]:
        """Return what config.json holds."""
        return copy.deepcopy(self.fields) or {"quant_method": QUANT_METHOD, "depth": self.depth}

    def __deepcopy__(self, memo: dict) -> "TritstreamConfig":
        """Return a copy that has the same backend and the same device."""
        copied = copy.copy(self)
        copied.fields = copy.deepcopy(self.fields, memo)
        return copied
