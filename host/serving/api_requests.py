"""Requests of OpenAI's API: the fields that are used, and refusals of all others."""

import json
import secrets
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tritstream.host.model.sampling import MAX_SEED, Sampling
from tritstream.host.serving.api_errors import ApiError

__all__ = ["ChatMessage", "ChatRequest", "StreamOptions", "TextPart", "TextRequest"]

#: Fields that do not change the text.
_IGNORED = frozenset({
    "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention",
    "safety_identifier", "service_tier", "store", "user",
})
#: Fields that are accepted with these values only, because they change nothing then.
_NEUTRAL: dict[str, tuple] = {
    "n": (1,), "best_of": (1,), "echo": (False,), "suffix": ("",),
    "logprobs": (False, 0), "top_logprobs": (0,), "logit_bias": ({},),
    "frequency_penalty": (0,), "presence_penalty": (0,),
    "response_format": ({"type": "text"},), "modalities": (["text"],),
    "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none",),
}
#: Fields of a message without a meaning for the text, as clients send them back.
_OF_MESSAGE: dict[str, tuple] = {
    "refusal": (), "annotations": ([],), "audio": (), "tool_calls": ([],), "function_call": (),
    "reasoning_content": ("",),
}


class _Fields(BaseModel):
    """Fields whose types are not converted; unknown ones are kept for a check."""

    model_config = ConfigDict(extra="allow", strict=True)


class StreamOptions(_Fields):
    """Options of a stream."""

    include_usage: bool = False


class TextPart(_Fields):
    """Part of a message that consists of several."""

    type: Literal["text"]
    text: str


class ChatMessage(_Fields):
    """Message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """Return role and text as chat templates take them."""
        text = (self.content if isinstance(self.content, str)
                else "".join(part.text for part in self.content))
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class _Request(_Fields):
    """Fields that both kinds of requests have."""

    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def check(self) -> None:
        """Raise :class:`.ApiError` for a field that would change the text but is not supported."""
        _check_extra(self, _NEUTRAL, "")
        if self.stream_options and not self.stream:
            raise ApiError(400, "stream_options needs stream = true", "stream_options")
        if "" in self.stops():
            raise ApiError(400, "stop must not have an empty text", "stop")

    def stops(self) -> list[str]:
        """Return the texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    def sampling(self, temperature: float) -> Sampling:
        """Return how tokens are chosen; ``temperature`` is the one of requests without it."""
        seed = secrets.randbits(63) if self.seed is None else self.seed & MAX_SEED
        found = temperature if self.temperature is None else self.temperature
        try:
            return Sampling(found, self.top_p, self.top_k, seed)
        except ValueError as error:
            field = str(error).partition(" ")[0].replace("-", "_")
            raise ApiError(400, str(error), field) from None

    def wants_usage(self) -> bool:
        """Return whether a stream ends with the numbers of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(_Request):
    """Body of POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    def check(self) -> None:
        """Raise as for all requests, and for messages that are not plain text."""
        super().check()
        for at, message in enumerate(self.messages):
            _check_extra(message, _OF_MESSAGE, f"messages.{at}.")

    def limit(self) -> int | None:
        """Return the maximum number of tokens; None is what the context has room for."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class TextRequest(_Request):
    """Body of POST /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]

    def limit(self) -> int:
        """Return the maximum number of tokens: 16 if the request does not say, as OpenAI's."""
        return 16 if self.max_tokens is None else self.max_tokens

    def single(self) -> str | list[int]:
        """Return the prompt; raise :class:`.ApiError` if there are several, or none."""
        if isinstance(self.prompt, str):
            return self.prompt
        if tokens := [token for token in self.prompt if isinstance(token, int)]:
            return tokens
        if len(self.prompt) > 1:
            raise ApiError(400, f"prompt must be one text, not {len(self.prompt)}; send one "
                                "request per text: requests that wait together share their work",
                           "prompt")
        only = self.prompt[0] if self.prompt else []
        return only if isinstance(only, str | list) else [only]


def _check_extra(fields: BaseModel, neutral: dict[str, tuple], place: str) -> None:
    for name, value in (fields.model_extra or {}).items():
        if name in _IGNORED or (name in neutral and (value is None or value in neutral[name])):
            continue
        if name in neutral:
            allowed = " or ".join(map(json.dumps, neutral[name])) or "null"
            raise ApiError(400, f"{place}{name} is supported only as {allowed}; leave it out",
                           f"{place}{name}", "unsupported_value")
        raise ApiError(400, f"{place}{name} is unknown; leave it out", f"{place}{name}",
                       "unknown_parameter")
