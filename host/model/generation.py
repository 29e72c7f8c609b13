"""Text from a model, as it comes, and what each part of the work took."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from golden.shards import CheckpointError
from host.model.backends import Cost

__all__ = ["Generation", "Phase", "generate_text", "prompt_tokens"]


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
    """

    prompt:      list[int]
    tokens:      list[int]
    text:        str
    prefill:     Phase
    decode:      Phase
    interrupted: bool = False


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, chat: bool) -> list[int]:
    """Token ids of a prompt; for ``chat`` as a user's message in the checkpoint's own template.

    Raises :class:`golden.shards.CheckpointError` when there is no template and :class:`ValueError`
    for a prompt of no token.
    """
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

    Greedy at temperature 0, else sampled, with what else the checkpoint's generation_config.json
    says. ``emit`` gets text as soon as it is sure; ``take_cost`` gives what the device has taken
    since it was last called. An interrupt ends the text, not the program.

    Raises :class:`ValueError` when the model has no room for so many tokens.
    """
    room = getattr(model.config, "max_position_embeddings", None)
    if count < 1 or room and len(prompt) + count > room:
        raise ValueError(f"tokens must be at least 1 and, with the {len(prompt)} of the prompt, at "
                         f"most {room}, not {count}")
    result = Generation(prompt, [], "", Phase(), Phase())
    streamer = _Recorder(tokenizer, result, emit, take_cost)
    torch.manual_seed(seed)
    ids = torch.tensor([prompt])
    try:
        model.generate(ids, attention_mask=torch.ones_like(ids), streamer=streamer,
                       max_new_tokens=count, **_sampling(temperature))
    except KeyboardInterrupt:
        result.interrupted = True
        streamer.end()
    return result


def _sampling(temperature: float) -> dict:
    if temperature and not _COLDEST <= temperature < math.inf:
        raise ValueError(f"temperature must be 0, or finite and at least {_COLDEST:g}, not "
                         f"{temperature}")
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
