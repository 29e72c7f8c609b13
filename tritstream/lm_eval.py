"""Model ``tritstream`` of lm-eval, the Language Model Evaluation Harness.

lm-eval finds the models of other packages only after an import, so run it by this module::

    python -m tritstream.lm_eval run --model tritstream --model_args pretrained=DIR --tasks NAME

From Python, ``import tritstream.lm_eval`` before :func:`lm_eval.simple_evaluate`.
"""

import sys
from typing import Any

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from tritstream.golden.checkpoints.hub import local_model
from tritstream.host.errors import HostError
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.packed import load_packed

__all__ = ["TritstreamLM"]

#: Options of lm-eval's own models that have an effect on a model which is loaded already.
_OPTIONS = frozenset((
    "add_bos_token", "batch_size", "chat_template_args", "enable_thinking", "logits_cache",
    "max_batch_size", "max_length", "prefix_token_id", "softmax_dtype", "think_end_token",
    "truncation"))


@register_model("tritstream")
class TritstreamLM(HFLM):
    """A packed, exported or original model, as lm-eval sees models of transformers.

    Parameters
    ----------
    pretrained : str
        Directory of a checkpoint, GGUF file, or name of a model on the Hub, see
        :func:`.load_model`.
    backend : str
        ``device`` for the device that ``accelerator`` describes, or a backend of
        :func:`.load_model`.
    activation_bits : int
        Bits per activation, 8 or 16; ignored by the backend ``reference``.
    accelerator : str
        Device for the backend ``device``, see :func:`.open_device`.
    device : str
        lm-eval's device of torch, which has no effect: torch runs on the CPU.
    options
        ``batch_size``, ``max_length`` and others of lm-eval's model ``hf``.

    Raises :class:`ValueError` for an option that would have no effect, and the errors of
    :func:`.load_model`.
    """

    def __init__(
        self, pretrained: str, backend: str = "reference", activation_bits: int = 8,
        accelerator: str = "sim", device: str | None = None, **options: Any,
    ):
        if unknown := sorted(options.keys() - _OPTIONS):
            raise ValueError(f"the model tritstream has no option {unknown[0]!r}; it has "
                             f"{', '.join(sorted(_OPTIONS))}")
        path = local_model(pretrained)
        if backend == "device":
            model = load_packed(path, accelerator, activation_bits=activation_bits)
        else:
            model = load_model(path, backend=backend, activation_bits=activation_bits)
        super().__init__(model, backend="causal", tokenizer=load_tokenizer(path), **options)
        # lm-eval reports it, and looks it up on the Hub.
        self.pretrained = pretrained


def _main() -> None:
    try:
        cli_evaluate()
    except (ValueError, HostError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _main()
