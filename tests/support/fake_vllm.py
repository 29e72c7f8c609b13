"""Stand-in for the parts of vLLM that the plug-in uses, with the signatures of vLLM 0.32.

Written after vllm/model_executor: layers/quantization/__init__.py and base_config.py (registry,
configuration), layers/linear.py (layers, which merge and split what the loader yields),
model_loader/__init__.py, base_loader.py and default_loader.py (the order of loading, the check of
what was loaded), model_loader/weight_utils.py (which files are read), models/qwen2.py (names of
merged layers).
"""

import json
import sys
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

__all__ = ["Qwen2Layer", "Qwen2Model", "installed", "load"]

_METHODS, _LOADERS, _CURRENT = {}, {}, []


class QuantizeMethodBase(ABC):
    @abstractmethod
    def create_weights(self, layer, *weight_args, **extra_weight_attrs): ...

    @abstractmethod
    def apply(self, layer, *args, **kwargs): ...

    def process_weights_after_loading(self, layer):
        return


class QuantizationConfig(ABC):
    @abstractmethod
    def get_name(self): ...

    @abstractmethod
    def get_supported_act_dtypes(self): ...

    @classmethod
    @abstractmethod
    def get_min_capability(cls): ...

    @staticmethod
    @abstractmethod
    def get_config_filenames(): ...

    @classmethod
    @abstractmethod
    def from_config(cls, config): ...

    @abstractmethod
    def get_quant_method(self, layer, prefix): ...


def _registers(registry, base):
    def register(name):
        def wrap(cls):
            assert issubclass(cls, base)
            registry[name] = cls
            return cls
        return wrap
    return register


def get_current_vllm_config():
    return _CURRENT[-1]


@contextmanager
def set_current_vllm_config(config):
    _CURRENT.append(config)
    yield
    _CURRENT.pop()


class UnquantizedLinearMethod(QuantizeMethodBase):
    def create_weights(self, layer, input_size_per_partition, output_partition_sizes, input_size,
                       output_size, params_dtype, **extra_weight_attrs):
        # What no tensor is loaded into stays random memory in vLLM.
        values = torch.full((sum(output_partition_sizes), input_size_per_partition), torch.nan,
                            dtype=params_dtype)
        layer.weight = nn.Parameter(values, requires_grad=False)
        layer.weight.weight_loader = extra_weight_attrs["weight_loader"]

    def apply(self, layer, x, bias=None):
        return F.linear(x, layer.weight, bias)


class LinearBase(nn.Module):
    """A linear layer; ``sizes`` are the outputs of the matrices that it merges, by shard."""

    def __init__(self, input_size, sizes, bias, quant_config, prefix, split_input=False):
        super().__init__()
        parallel = get_current_vllm_config().parallel_config
        self.rank, self.ranks = parallel.rank, parallel.tensor_parallel_size
        self.split_input, outputs = split_input, 1 if split_input else self.ranks
        self.sizes = {shard: size // outputs for shard, size in sizes.items()}
        self.quant_method = quant_config.get_quant_method(self, prefix=prefix)
        if not self.quant_method:
            raise ValueError("All linear layers should support quant method.")
        self.quant_method.create_weights(
            layer=self, input_size_per_partition=input_size // (self.ranks // outputs),
            output_partition_sizes=list(self.sizes.values()), input_size=input_size,
            output_size=sum(sizes.values()), params_dtype=torch.get_default_dtype(),
            weight_loader=self.weight_loader)
        self.bias = None
        if bias:
            self.bias = nn.Parameter(torch.empty(sum(self.sizes.values())), requires_grad=False)
            self.bias.weight_loader = self.weight_loader

    def weight_loader(self, param, loaded_weight, shard_id=None):
        split = int(self.split_input)
        ours = loaded_weight.chunk(self.ranks, split)[self.rank]
        start = 0
        for shard, size in self.sizes.items():
            if shard == shard_id:
                assert param.data[start:start + size].shape == ours.shape
                param.data[start:start + size].copy_(ours)
            start += size

    def forward(self, x):
        return self.quant_method.apply(self, x, self.bias)


class Qwen2Layer(nn.Module):
    #: Module of a checkpoint: merged module and shard.
    MERGED: ClassVar = {
        "q_proj": ("qkv_proj", "q"), "k_proj": ("qkv_proj", "k"), "v_proj": ("qkv_proj", "v"),
        "gate_proj": ("gate_up_proj", 0), "up_proj": ("gate_up_proj", 1)}

    def __init__(self, config, quant_config, prefix):
        super().__init__()
        size, inner = config["hidden_size"], config["intermediate_size"]
        kv = size // config["num_attention_heads"] * config["num_key_value_heads"]
        self.self_attn, self.mlp = nn.Module(), nn.Module()
        self.self_attn.qkv_proj = LinearBase(size, {"q": size, "k": kv, "v": kv}, True,
                                             quant_config, f"{prefix}.self_attn.qkv_proj")
        self.self_attn.o_proj = LinearBase(size, {None: size}, False, quant_config,
                                           f"{prefix}.self_attn.o_proj", split_input=True)
        self.mlp.gate_up_proj = LinearBase(size, {0: inner, 1: inner}, False, quant_config,
                                           f"{prefix}.mlp.gate_up_proj")
        self.mlp.down_proj = LinearBase(inner, {None: size}, False, quant_config,
                                        f"{prefix}.mlp.down_proj", split_input=True)
        self.input_layernorm = nn.RMSNorm(size)
        self.post_attention_layernorm = nn.RMSNorm(size)


class Qwen2Model(nn.Module):
    def __init__(self, config, quant_config):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.model.layers = nn.ModuleList(
            Qwen2Layer(config, quant_config, f"model.layers.{index}")
            for index in range(config["num_hidden_layers"]))
        self.model.norm = nn.RMSNorm(config["hidden_size"])
        self.lm_head = nn.Embedding(config["vocab_size"], config["hidden_size"])

    def load_weights(self, weights):
        loaded, parameters = set(), dict(self.named_parameters())
        for name, value in weights:
            parts = name.split(".")
            parts[-2], *shard = Qwen2Layer.MERGED.get(parts[-2], (parts[-2],))
            param = parameters[".".join(parts)]
            if hasattr(param, "weight_loader"):
                param.weight_loader(param, value, *shard)
            else:
                param.data.copy_(value)
            loaded.add(".".join(parts))
        return loaded


class DefaultModelLoader:
    def __init__(self, load_config):
        self.load_config = load_config
        self.counter_before_loading_weights = 0.0
        self.enable_weights_track = load_config.model_loader_extra_config.get(
            "enable_weights_track")

    def get_all_weights(self, model_config, model):
        folder = Path(model_config.model)
        files, index = set(folder.glob("*.safetensors")), folder / "model.safetensors.index.json"
        if index.is_file():
            named = {folder / file for file in json.loads(index.read_text())["weight_map"].values()}
            if named - files:
                raise FileNotFoundError("Weight files referenced in index but missing: "
                                        f"{named - files}")
            files &= named
        for file in files:
            yield from load_file(file).items()

    def load_weights(self, model, model_config):
        loaded = model.load_weights(self.get_all_weights(model_config, model))
        lacking = {name for name, _ in model.named_parameters()} - loaded
        if self.enable_weights_track and lacking:
            raise ValueError(f"Following weights were not initialized from checkpoint: {lacking}")


_MODULES = {
    "vllm.config": {"ModelConfig": object, "get_current_vllm_config": get_current_vllm_config},
    "vllm.config.load": {"LoadConfig": object},
    "vllm.model_executor.layers.linear": {
        "LinearBase": LinearBase, "UnquantizedLinearMethod": UnquantizedLinearMethod},
    "vllm.model_executor.layers.quantization": {
        "register_quantization_config": _registers(_METHODS, QuantizationConfig)},
    "vllm.model_executor.layers.quantization.base_config": {
        "QuantizationConfig": QuantizationConfig, "QuantizeMethodBase": QuantizeMethodBase},
    "vllm.model_executor.model_loader": {
        "register_model_loader": _registers(_LOADERS, DefaultModelLoader)},
    "vllm.model_executor.model_loader.default_loader": {"DefaultModelLoader": DefaultModelLoader},
}
_PLUGIN = [f"tritstream.host.vllm_plugin.{name}" for name in ("config", "loader")]


@contextmanager
def installed():
    """Put the modules where the plug-in imports them from; take them, and the plug-in, out after.
    """
    before = dict(sys.modules)
    for name in ("vllm", "vllm.model_executor", "vllm.model_executor.layers", *_MODULES):
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(_MODULES.get(name, {}))
    for name in _PLUGIN:
        sys.modules.pop(name, None)
    yield
    for name in (*_PLUGIN, *(name for name in sys.modules.copy() if name.startswith("vllm"))):
        sys.modules.pop(name, None)
        if name in before:
            sys.modules[name] = before[name]
    _METHODS.clear()
    _LOADERS.clear()


def load(path, load_format="tritstream", *, rank=0, ranks=1, extra=None, change=lambda model: None):
    """Load a directory as vLLM does, as one of several ranks; return the model.

    ``change`` is called with the model before its weights are loaded.
    """
    config = json.loads((path / "config.json").read_text())
    fields = config["quantization_config"]
    model_config = SimpleNamespace(model=str(path), revision=None,
                                   hf_config=SimpleNamespace(**config))
    quant_config = _METHODS[fields["quant_method"]].from_config(fields)
    load_config = SimpleNamespace(
        load_format=load_format, download_dir=None, ignore_patterns=["original/**/*"],
        model_loader_extra_config=extra or {})
    vllm_config = SimpleNamespace(
        model_config=model_config, load_config=load_config, quant_config=quant_config,
        parallel_config=SimpleNamespace(rank=rank, tensor_parallel_size=ranks))
    loader = _LOADERS.get(load_format, DefaultModelLoader)(load_config)
    with set_current_vllm_config(vllm_config):
        model = Qwen2Model(config, quant_config)
    change(model)
    loader.load_weights(model, model_config)
    for module in model.modules():
        if isinstance(getattr(module, "quant_method", None), QuantizeMethodBase):
            module.quant_method.process_weights_after_loading(module)
    return model
