"""Text generation with streamed output, and the cost of its phases."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import torch
from transformers import (
    BatchEncoding,
    GenerationMixin,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TextStreamer,
)

from tritstream.golden.errors import CheckpointError
from tritstream.host.model.backends import Cost
from tritstream.host.model.settings import FILE, only_used

__all__ = ["MAX_SEED", "Generation", "Phase", "generate_text", "prompt_tokens"]

#: The largest seed of torch.
MAX_SEED = (1 << 64) - 1

#: Lowest temperature above 0: logits divided by it stay finite.
_COLDEST = 1e-6


@dataclass
class Phase:
    """Passes through the model: number of input tokens, wall time in seconds, cost on the device.
    """

    tokens:  int = 0
    seconds: float = 0.0
    cost:    Cost = Cost()


@dataclass
class Generation:
    """Result of a generation.

    Members
    -------
    prompt, tokens : list of int
        Token ids of the prompt, and of the generated text.
    text : str
        Generated text, without special tokens.
    prefill, decode : Phase
        Pass over the prompt, which yields the first token, and passes over one token each.
    interrupted : bool
        Whether the user interrupted the generation.
    unused : list of str
        Settings of the checkpoint that had no effect.
    """

    prompt:      list[int]
    tokens:      list[int]
    text:        str
    prefill:     Phase
    decode:      Phase
    interrupted: bool = False
    unused:      list[str] = field(default_factory=list)


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, chat: bool) -> list[int]:
    """Return the token ids of a prompt; for ``chat``, of a user message in the chat template.

    Raises :class:`.CheckpointError` if the tokenizer has no template, and :class:`ValueError` for
    a prompt that has no token or is not valid UTF-8.
    """
    try:
        prompt = prompt.encode("utf-8", "surrogateescape").decode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise ValueError(f"the prompt is not UTF-8 at byte {error.start}; give it in "
                         "UTF-8") from None
    ids = _chat_tokens(tokenizer, prompt) if chat else tokenizer(prompt).input_ids
    if not ids:
        raise ValueError("the prompt has no token; give some text")
    return ids


def _chat_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    if tokenizer.chat_template is None:
        raise CheckpointError(f"{tokenizer.name_or_path}: has no chat template; leave out --chat")
    message = {"role": "user", "content": prompt}
    encoding = tokenizer.apply_chat_template(
        [message], add_generation_prompt=True, return_dict=True)
    # The annotation of the method covers all combinations of its arguments.
    return cast(BatchEncoding, encoding).input_ids


def generate_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], count: int, *,
    emit: Callable[[str], None], take_cost: Callable[[], Cost],
    temperature: float = 0.0, seed: int = 0,
) -> Generation:
    """Generate up to ``count`` tokens after ``prompt`` by transformers' ``generate``.

    Decoding is greedy at temperature 0, otherwise sampled. It uses the settings of the checkpoint's
    generation_config.json that apply to a single text; ``Generation.unused`` names all other
    settings, such as ``num_beams``. A keyboard interrupt ends the text, not the program.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerBase
    prompt : list of int
        Token ids: :func:`prompt_tokens`.
    count : int
        Maximum number of tokens to generate.
    emit : callable
        Called with each part of the text as soon as later tokens cannot change it.
    take_cost : callable
        Returns the cost on the device since its last call: :meth:`.Backend.take_cost`.
    temperature : float
        Sampling temperature, or 0.
    seed : int
        Random seed of the sampling, 0..``MAX_SEED``.

    Raises :class:`ValueError` if the tokens exceed the context of the model, or if a temperature
    or seed is out of range, and :class:`.CheckpointError` if transformers rejects the settings of
    the checkpoint.
    """
    sampling = _sampling(temperature, seed)
    _check_room(model, len(prompt), count)
    result = Generation(prompt, [], "", Phase(), Phase())
    streamer = _Recorder(tokenizer, result, emit, take_cost)
    torch.manual_seed(seed)
    ids = torch.tensor([prompt])
    try:
        with only_used(model) as result.unused, _settings_named(model):
            # All classes that load_model() accepts can generate.
            cast(GenerationMixin, model).generate(
                ids, attention_mask=torch.ones_like(ids), streamer=streamer, tokenizer=tokenizer,
                max_new_tokens=count, **sampling)
    except KeyboardInterrupt:
        result.interrupted = True
        streamer.end()
    return result


def _check_room(model: PreTrainedModel, prompt: int, count: int) -> None:
    room = getattr(model.config, "max_position_embeddings", None)
    if count < 1 or (room and prompt + count > room):
        raise ValueError(f"tokens must be at least 1 and, with the {prompt} of the prompt, at most "
                         f"{room}, not {count}")


@contextmanager
def _settings_named(model: PreTrainedModel) -> Iterator[None]:
    """Turn an error before the first pass through the model into one that names the settings."""
    passes: list[bool] = []
    hook = model.register_forward_pre_hook(lambda *_: passes.append(True))
    try:
        yield
    except (TypeError, ValueError) as error:
        if passes:
            raise
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{model.name_or_path}: transformers cannot generate with its "
                              f"settings ({reason}); correct {FILE}") from None
    finally:
        hook.remove()


def _sampling(temperature: float, seed: int) -> dict:
    if temperature and not _COLDEST <= temperature < math.inf:
        raise ValueError(f"temperature must be 0, or finite and at least {_COLDEST:g}, not "
                         f"{temperature}")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be 0..{MAX_SEED}, not {seed}")
    if temperature:
        return {"do_sample": True, "temperature": temperature}
    return {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}


class _Recorder(TextStreamer):
    """Records generated tokens, their text, and the cost of each pass."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, result: Generation,
                 emit: Callable[[str], None], take_cost: Callable[[], Cost]):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._result, self._emit, self._take_cost = result, emit, take_cost
        self._began = time.perf_counter()

    def put(self, value: torch.Tensor) -> None:
        """Receive the prompt, then each token."""
        if not self.next_tokens_are_prompt:
            self._record(int(value.item()))
        super().put(value)
        self._began = time.perf_counter()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Receive text that later tokens cannot change."""
        self._result.text += text
        self._emit(text)

    def _record(self, token: int) -> None:
        first = not self._result.tokens
        phase = self._result.prefill if first else self._result.decode
        phase.tokens += len(self._result.prompt) if first else 1
        phase.seconds += time.perf_counter() - self._began
        phase.cost += self._take_cost()
        self._result.tokens.append(token)
