"""A model that is served: what a request asks of it, and which requests it takes."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tritstream.host.model.prompts import NoTemplate, chat_tokens, context_length, text_tokens
from tritstream.host.serving.api_errors import ApiError
from tritstream.host.serving.api_requests import ChatRequest, TextRequest
from tritstream.host.serving.engine import Engine, Job

__all__ = ["Service"]

#: Maximum number of tokens of an answer where neither the request nor the context limits it.
_LONGEST = 2048


@dataclass(frozen=True)
class Service:
    """A model that is served.

    Members
    -------
    name : str
        Name of the model in requests.
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerBase
    engine : Engine
        Engine of the model, running.
    key : str or None
        Key that requests must have; None lets all in.
    hosts : frozenset of str or None
        Names of this server in the Host header of requests; None allows all. A web page could
        otherwise reach a server of the local machine through a name of its own.
    """

    name:      str
    model:     PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    engine:    Engine
    key:       str | None = None
    hosts:     frozenset[str] | None = None

    def chat_job(self, request: ChatRequest) -> Job:
        """Return the job of a request; raise :class:`.ApiError` if it cannot be done."""
        self._check(request)
        messages = [message.plain() for message in request.messages]
        prompt = _tokens("messages", lambda: chat_tokens(self.tokenizer, messages))
        return self._job(prompt, request.limit(), request)

    def text_job(self, request: TextRequest) -> Job:
        """Return the job of a request; raise :class:`.ApiError` if it cannot be done."""
        self._check(request)
        prompt = _tokens("prompt", lambda: self._text_prompt(request.single()))
        return self._job(prompt, request.limit(), request)

    def _check(self, request: ChatRequest | TextRequest) -> None:
        self.check_model(request.model)
        request.check()

    def _job(self, prompt: list[int], limit: int | None, request: ChatRequest | TextRequest) -> Job:
        settings = self.model.generation_config
        # The default of OpenAI's API is 1.
        usual = settings.temperature if settings.do_sample and settings.temperature else 1.0
        sampling = request.sampling(usual)
        return Job(prompt, self._count(len(prompt), limit), sampling, request.stops())

    def _text_prompt(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            return text_tokens(self.tokenizer, prompt)
        size = self.model.config.get_text_config().vocab_size
        if not prompt:
            raise ValueError("the prompt has no token; give some text")
        if wrong := [token for token in prompt if not 0 <= token < size]:
            raise ValueError(f"tokens are 0..{size - 1}, not {wrong[0]}")
        return prompt

    def _count(self, prompt: int, limit: int | None) -> int:
        context = context_length(self.model.config)
        if context is None:
            return limit or _LONGEST
        room = context - prompt
        if room < (limit or 1):
            asked = f" and {limit} new ones are asked for" if limit else ""
            advice = (f"ask for at most {room}, or shorten the prompt" if room > 0
                      else "shorten the prompt")
            raise ApiError(400, f"the context of the model has {context} tokens, the prompt has "
                                f"{prompt}{asked}; {advice}", code="context_length_exceeded")
        return limit or room

    async def check_access(self, request: Request) -> None:
        """Raise :class:`.ApiError` unless a request has the key, or names this server."""
        if self.hosts is not None and request.url.hostname not in self.hosts:
            raise ApiError(403, f"the host {request.url.hostname!r} is not this server; use "
                                f"{' or '.join(sorted(self.hosts))}", code="unknown_host")
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        if self.key is not None and not (
                kind.lower() == "bearer" and secrets.compare_digest(key.encode(),
                                                                    self.key.encode())):
            said = "is wrong" if key else "is missing"
            raise ApiError(401, f"the key {said}; send the header Authorization: Bearer KEY",
                           code="invalid_api_key")

    def check_model(self, name: str) -> None:
        """Raise :class:`.ApiError` for the name of another model."""
        if name != self.name:
            raise ApiError(404, f"the model {name!r} does not exist; this server has {self.name!r}",
                           "model", "model_not_found")


def _tokens(field: str, make: Callable[[], list[int]]) -> list[int]:
    """Return the tokens of a prompt; raise :class:`.ApiError` if it has none."""
    try:
        return make()
    except NoTemplate as error:
        raise ApiError(400, f"{error}; use /v1/completions", field) from None
    except ValueError as error:
        raise ApiError(400, str(error), field) from None
