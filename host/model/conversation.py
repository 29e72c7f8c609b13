"""Conversation with a model: messages, and answers that continue them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tritstream.host.model.backends import Cost
from tritstream.host.model.generation import Generation, generate_text
from tritstream.host.model.prompts import Message, chat_tokens, context_length
from tritstream.host.model.sampling import GREEDY, MAX_SEED, Sampling

__all__ = ["Conversation"]


class Conversation:
    """Messages of a user, and the answers of a model.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerBase
    take_cost : callable
        As for :func:`.generate_text`.
    tokens : int
        Maximum number of tokens of an answer.
    sampling : Sampling
        How tokens are chosen. The seed of each answer is one more than that of the answer before.
    stops : sequence of str
        Texts that end an answer.
    system : str or None
        System message.

    Members
    -------
    messages : list
        System message, and all messages since :meth:`reset`.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
        take_cost: Callable[[], Cost], *, tokens: int, sampling: Sampling = GREEDY,
        stops: Sequence[str] = (), system: str | None = None,
    ):
        self._model, self._tokenizer, self._take_cost = model, tokenizer, take_cost
        self._tokens, self._sampling, self._stops = tokens, sampling, stops
        self.messages: list[Message] = []
        self.reset(system)

    def reset(self, system: str | None) -> None:
        """Forget all messages, and begin with a system message, if there is one."""
        self.messages = [] if system is None else [{"role": "system", "content": system}]

    @property
    def system(self) -> str | None:
        """The system message."""
        return next((one["content"] for one in self.messages if one["role"] == "system"), None)

    def ask(self, text: str, emit: Callable[[str], None]) -> Generation:
        """Answer a message, and call ``emit`` with each part of the answer.

        An interrupted answer becomes part of the conversation as far as it came. Raises
        :class:`ValueError` if the chat template or the context of the model has no place for the
        message. The conversation is the same as before then, as after any other error.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        prompt = chat_tokens(self._tokenizer, messages)
        result = generate_text(
            self._model, self._tokenizer, prompt, self._room(len(prompt)), emit=emit,
            take_cost=self._take_cost, sampling=self._sampling, stops=self._stops)
        self._sampling = replace(self._sampling, seed=self._sampling.seed + 1 & MAX_SEED)
        self.messages = [*messages, {"role": "assistant", "content": result.text}]
        return result

    def ask_again(self, emit: Callable[[str], None]) -> Generation:
        """Answer the last message again; raise :class:`ValueError` if there is none."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            raise ValueError("there is no answer yet")
        whole = self.messages
        self.messages = whole[:-2]
        try:
            return self.ask(whole[-2]["content"], emit)
        except BaseException:
            self.messages = whole
            raise

    def _room(self, prompt: int) -> int:
        context = context_length(self._model.config)
        if context is None:
            return self._tokens
        if prompt >= context:
            raise ValueError(f"the conversation has {prompt} tokens with this message, and the "
                             f"context of the model is {context}; begin a new conversation")
        return min(self._tokens, context - prompt)
