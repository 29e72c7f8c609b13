"""Text generation with streamed output, and the cost of its phases."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from tritstream.golden.errors import CheckpointError
from tritstream.host.model.backends import Cost
from tritstream.host.model.prompts import context_length
from tritstream.host.model.sampling import GREEDY, PossibleToken, Sampling
from tritstream.host.model.settings import FILE, only_used
from tritstream.host.model.text_stream import TextStream

__all__ = ["CHUNK", "Generation", "Phase", "continue_text", "generate_text"]

#: Tokens of a prompt per pass through the model. A server runs other texts between two passes.
CHUNK = 64


@dataclass
class Phase:
    """Passes through the model: number of input tokens, wall time in seconds, cost on the device.
    """

    tokens:  int = 0
    seconds: float = 0.0
    cost:    Cost = Cost()

    def __add__(self, other: "Phase") -> "Phase":
        return Phase(self.tokens + other.tokens, self.seconds + other.seconds,
                     self.cost + other.cost)


@dataclass
class Generation:
    """Result of a generation.

    Members
    -------
    prompt, tokens : list of int
        Token ids of the prompt, and of the generated text.
    text : str
        Generated text, without special tokens, stop text and an incomplete character at its end.
    prefill, decode : Phase
        Passes over the prompt, which yield the first token, and passes over one token each.
    interrupted : bool
        Whether the user interrupted the generation.
    is_cut : bool
        Whether the text ended because it had the maximum number of tokens.
    unused : list of str
        Settings of the checkpoint that had no effect.
    """

    prompt:      list[int]
    tokens:      list[int]
    text:        str
    prefill:     Phase
    decode:      Phase
    interrupted: bool = False
    is_cut:      bool = False
    unused:      list[str] = field(default_factory=list)


def generate_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], count: int, *,
    emit: Callable[[str], None], take_cost: Callable[[], Cost],
    sampling: Sampling = GREEDY, stops: Sequence[str] = (),
) -> Generation:
    """Generate up to ``count`` tokens after ``prompt`` by transformers' ``generate``.

    It uses the settings of the checkpoint's generation_config.json that apply to a single text;
    ``Generation.unused`` names all other settings, such as ``num_beams``. A keyboard interrupt ends
    the text, not the program.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerBase
    prompt : list of int
        Token ids: :func:`.prompt_tokens`.
    count : int
        Maximum number of tokens to generate.
    emit : callable
        Called with each part of the text as soon as later tokens cannot change it.
    take_cost : callable
        Returns the cost on the device since its last call: :meth:`.Backend.take_cost`.
    sampling : Sampling
        How tokens are chosen; greedily by default.
    stops : sequence of str
        Texts before the first of which the text ends.

    Raises :class:`ValueError` if the tokens exceed the context of the model, and
    :class:`.CheckpointError` if transformers rejects the settings of the checkpoint, or if no token
    can be chosen.
    """
    with only_used(model) as unused:
        result = continue_text(model, tokenizer, prompt, count, emit=emit, take_cost=take_cost,
                               sampling=sampling, stops=stops)
    result.unused = unused
    return result


def continue_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], count: int, *,
    emit: Callable[[str], None], take_cost: Callable[[], Cost],
    sampling: Sampling = GREEDY, stops: Sequence[str] = (),
) -> Generation:
    """Generate like :func:`generate_text`, within a context of :func:`.only_used`.

    Several generations with a model may be in progress in this function.
    """
    _check_room(model, len(prompt), count)
    result = Generation(prompt, [], "", Phase(), Phase())
    stream = TextStream(tokenizer, emit, stops)
    torch.manual_seed(sampling.seed)
    ids = torch.tensor([prompt], device=model.device)
    settings = cast(Any, model.generation_config)
    recorder = _Recorder(result, stream, take_cost)
    try:
        with _settings_named(model):
            # All classes that load_model() accepts can generate.
            cast(GenerationMixin, model).generate(
                ids, attention_mask=torch.ones_like(ids), tokenizer=tokenizer,
                max_new_tokens=count, prefill_chunk_size=CHUNK if len(prompt) > CHUNK else None,
                logits_processor=LogitsProcessorList([PossibleToken(str(model.name_or_path))]),
                stopping_criteria=StoppingCriteriaList([recorder]),
                **sampling.arguments(settings))
    except KeyboardInterrupt:
        result.interrupted = True
    stream.end()
    result.text = stream.text
    result.is_cut = (len(result.tokens) == count and not stream.stopped
                     and result.tokens[-1] not in _ends(settings.eos_token_id))
    return result


def _check_room(model: PreTrainedModel, prompt: int, count: int) -> None:
    room = context_length(model.config)
    if count < 1 or (room and prompt + count > room):
        raise ValueError(f"tokens must be at least 1 and, with the {prompt} of the prompt, at most "
                         f"{room}, not {count}")


def _ends(tokens: int | list[int] | None) -> list[int]:
    return tokens if isinstance(tokens, list) else [] if tokens is None else [tokens]


@contextmanager
def _settings_named(model: PreTrainedModel) -> Iterator[None]:
    """Turn an error before the first pass through the model into one that names the settings."""
    passes: list[bool] = []
    hook = model.register_forward_pre_hook(lambda *_: passes.append(True))
    try:
        yield
    except (TypeError, ValueError) as error:
        if passes or isinstance(error, CheckpointError):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{model.name_or_path}: transformers cannot generate with its "
                              f"settings ({reason}); correct {FILE}") from None
    finally:
        hook.remove()


class _Recorder(StoppingCriteria):
    """Records generated tokens, their text, and the cost of each pass; ends at a stop text."""

    def __init__(self, result: Generation, stream: TextStream, take_cost: Callable[[], Cost]):
        self._result, self._stream, self._take_cost = result, stream, take_cost
        self._began = time.perf_counter()

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Receive the tokens so far (1, T); return whether the text has ended, (1,)."""
        self._record(int(input_ids[0, -1]))
        self._began = time.perf_counter()
        return torch.tensor([self._stream.stopped])

    def _record(self, token: int) -> None:
        first = not self._result.tokens
        phase = self._result.prefill if first else self._result.decode
        phase.tokens += len(self._result.prompt) if first else 1
        phase.seconds += time.perf_counter() - self._began
        phase.cost += self._take_cost()
        self._result.tokens.append(token)
        self._stream.put(token)
