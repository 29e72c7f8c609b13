"""Entry point of the group ``vllm.general_plugins``."""

from importlib import import_module

__all__ = ["register"]


def register() -> None:
    """Register the quantization method and the load format with vLLM.

    vLLM calls this in each of its processes. The modules register themselves when they are
    imported, so a second call has no effect.
    """
    for name in ("config", "loader"):
        import_module(f"tritstream.host.vllm_plugin.{name}")
