"""Generation settings of a checkpoint: generation_config.json."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from tritstream.golden.checkpoints.safetensors_reader import load_json
from tritstream.golden.errors import CheckpointError

__all__ = ["FILE", "only_used", "read_settings"]

FILE = "generation_config.json"

#: Settings that affect a single text generated token by token, greedily or by sampling.
_USED = frozenset({
    "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "do_sample",
    "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "eos_token_id",
    "epsilon_cutoff", "eta_cutoff", "exponential_decay_length_penalty", "forced_bos_token_id",
    "forced_eos_token_id", "guidance_scale", "max_time", "min_length", "min_new_tokens", "min_p",
    "no_repeat_ngram_size", "pad_token_id", "remove_invalid_values", "renormalize_logits",
    "repetition_penalty", "sequence_bias", "stop_strings", "suppress_tokens", "temperature",
    "top_h", "top_k", "top_p", "typical_p", "watermarking_config",
})
#: Settings that an option of the command replaces, or that do not affect the text.
_REPLACED = frozenset({
    "max_length", "max_new_tokens", "use_cache", "return_dict_in_generate", "transformers_version",
    "_from_model_config", "output_attentions", "output_hidden_states", "output_logits",
    "output_scores",
})
_TOKENS = ("bos_token_id", "eos_token_id", "forced_bos_token_id", "forced_eos_token_id",
           "pad_token_id", "begin_suppress_tokens", "suppress_tokens")


def read_settings(path: Path) -> tuple[GenerationConfig | None, dict[str, Any]]:
    """Return the settings of a checkpoint directory that affect a text, and all others by name.

    The settings are None if the file does not exist: transformers then reads config.json.

    Raises :class:`.CheckpointError` if the file is damaged or a setting is invalid.
    """
    if not (path / FILE).is_file():
        return None, {}
    fields = load_json(path / FILE, finite=False)
    for name in _TOKENS:
        if not _is_tokens(fields.get(name)):
            raise CheckpointError(f"{path / FILE}: {name} must be the number of a token, or a list "
                                  f"of them, not {fields[name]!r}; correct it or remove the file")
    used = {name: value for name, value in fields.items() if name in _USED and value is not None}
    try:
        return GenerationConfig(**used), {k: v for k, v in fields.items() if k not in used}
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path / FILE}: transformers rejects it ({reason}); correct it "
                              "or remove the file") from None


@contextmanager
def only_used(model: PreTrainedModel) -> Iterator[list[str]]:
    """Remove the settings that do not affect a single text, and yield their names.

    At the end of the context, the model gets its original settings back.
    """
    settings = model.generation_config
    found = settings.to_diff_dict()
    found |= {name: value for name, value in vars(settings).items()
              if name not in found and not hasattr(_DEFAULT, name)}
    model.generation_config = GenerationConfig(**{
        name: value for name, value in found.items() if name in _USED})
    try:
        yield sorted(name for name, value in found.items()
                     if name not in _USED | _REPLACED and not _is_neutral(value))
    finally:
        model.generation_config = settings


_DEFAULT = GenerationConfig()


def _is_neutral(value: Any) -> bool:
    """Return whether a setting has no effect by its value, such as one beam or a penalty of 1."""
    return value in (None, False) or (type(value) in (int, float) and value == 1)


def _is_tokens(value: Any) -> bool:
    return value is None or all(type(one) is int and one >= -1
                                for one in (value if isinstance(value, list) else [value]))
