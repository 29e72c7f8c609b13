"""Entry point of the group ``vllm.general_plugins``."""

from tritstream.golden.checkpoints.weight_files import QUANT_METHOD

__all__ = ["register"]


def register() -> None:
    """Register the quantization method and the load format, which have the same name, with vLLM.

    vLLM calls this in each of its processes. Another call changes nothing.
    """
    from vllm.model_executor.layers.quantization import register_quantization_config
    from vllm.model_executor.model_loader import register_model_loader

    from tritstream.host.vllm_plugin.config import LOAD_FORMAT, TritstreamQuantizationConfig
    from tritstream.host.vllm_plugin.loader import TritstreamModelLoader

    register_quantization_config(QUANT_METHOD)(TritstreamQuantizationConfig)
    register_model_loader(LOAD_FORMAT)(TritstreamModelLoader)
