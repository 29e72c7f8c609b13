"""Text from a model, as it comes, and what each part of the work took."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

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
    """Passes through the model: tokens that went in, wall time, what the device took of it."""

    tokens:  int = 0
    seconds: float = 0.0
    cost:    Cost = Cost()


@dataclass
class Generation:
    """What came out.

    Members
    -------
    prompt, tokens : list of int
        Token ids that went in and that came out.
    text : str
        What the new tokens spell, special tokens left out.
    prefill, decode : Phase
        The pass over the prompt, which gives the first token, and the passes of one token each.
    interrupted : bool
        Whether the keyboard ended it.
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
    """Token ids of a prompt; for ``chat`` as a user's message in the checkpoint's own template.

    Raises :class:`.CheckpointError` when there is no template and :class:`ValueError`
    for a prompt of no token, or that is no text.
    """
    try:
        prompt = prompt.encode("utf-8", "surrogateescape").decode()
    except UnicodeError as error:
        raise ValueError(f"the prompt is not UTF-8 at byte {error.start}; give it in "
                         "UTF-8") from None
    if not chat:
        ids = tokenizer(prompt).input_ids
    elif tokenizer.chat_template is None:
        raise CheckpointError(f"{tokenizer.name_or_path}: has no chat template; leave out --chat")
    else:
        message = {"role": "user", "content": prompt}
        ids = tokenizer.apply_chat_template(
            [message], add_generation_prompt=True, return_dict=True).input_ids
    if not ids:
        raise ValueError("the prompt has no token; give some text")
    return ids


def generate_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], count: int, *,
    emit: Callable[[str], None], take_cost: Callable[[], Cost],
    temperature: float = 0.0, seed: int = 0,
) -> Generation:
    """Generate up to ``count`` tokens after ``prompt`` by transformers' ``generate``.

    Greedy at temperature 0, else sampled, with the settings of the checkpoint's
    generation_config.json that one text has use for; ``Generation.unused`` has the others, such as
    ``num_beams``. ``emit`` gets text as soon as it is sure; ``take_cost`` gives what the device has
    taken since it was last called. An interrupt ends the text, not the program.

    Raises :class:`ValueError` when the model has no room for so many tokens, or for a temperature
    or seed out of range, and :class:`.CheckpointError` for settings of the checkpoint
    that transformers refuses.
    """
    sampling = _sampling(temperature, seed)
    room = getattr(model.config, "max_position_embeddings", None)
    if count < 1 or room and len(prompt) + count > room:
        raise ValueError(f"tokens must be at least 1 and, with the {len(prompt)} of the prompt, at "
                         f"most {room}, not {count}")
    result = Generation(prompt, [], "", Phase(), Phase())
    streamer = _Recorder(tokenizer, result, emit, take_cost)
    torch.manual_seed(seed)
    ids = torch.tensor([prompt])
    try:
        with only_used(model) as result.unused, _settings_named(model):
            model.generate(ids, attention_mask=torch.ones_like(ids), streamer=streamer,
                           tokenizer=tokenizer, max_new_tokens=count, **sampling)
    except KeyboardInterrupt:
        result.interrupted = True
        streamer.end()
    return result


@contextmanager
def _settings_named(model: PreTrainedModel) -> Iterator[None]:
    """Turn an error from before the first pass through the model into one that names its cause."""
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
    """Takes tokens as they come: ids, text, and what each pass took."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, result: Generation,
                 emit: Callable[[str], None], take_cost: Callable[[], Cost]):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._result, self._emit, self._take_cost = result, emit, take_cost
        self._began = time.perf_counter()

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, then each token."""
        if not self.next_tokens_are_prompt:
            self._record(value.item())
        super().put(value)
        self._began = time.perf_counter()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Pass on text that the next token cannot change."""
        self._result.text += text
        self._emit(text)

    def _record(self, token: int) -> None:
        first = not self._result.tokens
        phase = self._result.prefill if first else self._result.decode
        phase.tokens += len(self._result.prompt) if first else 1
        phase.seconds += time.perf_counter() - self._began
        phase.cost += self._take_cost()
        self._result.tokens.append(token)
