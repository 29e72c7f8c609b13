"""Answers of OpenAI's API, whole and in parts."""

import time
import uuid
from abc import ABC, abstractmethod
from typing import Any

from tritstream.host.model.generation import Generation

__all__ = ["ChatAnswer", "TextAnswer", "usage"]

Body = dict[str, Any]


class _Answer(ABC):
    """Form of the answer to one request.

    Parameters
    ----------
    model : str
        Name of the model.
    has_usage : bool
        Whether the last part of a stream has the numbers of tokens, and all others null.
    """

    prefix: str
    whole_object: str
    part_object: str

    def __init__(self, model: str, has_usage: bool):
        self._same = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()),
                      "model": model}
        self._no_usage = {"usage": None} if has_usage else {}
        self._has_usage = has_usage

    def whole(self, result: Generation) -> Body:
        """Return the complete answer."""
        choice = self._whole_choice(result.text) | _choice(_reason(result))
        return {**self._same, "object": self.whole_object, "choices": [choice],
                "usage": usage(result)}

    def first(self) -> list[Body]:
        """Return what a stream begins with."""
        return []

    def part(self, text: str) -> Body:
        """Return a part of a stream."""
        return self._part(self._part_choice(text) | _choice(None))

    def last(self, result: Generation) -> list[Body]:
        """Return what a stream ends with."""
        end = self._part(self._end_choice() | _choice(_reason(result)))
        counts = {**self._same, "object": self.part_object, "choices": [], "usage": usage(result)}
        return [end, counts] if self._has_usage else [end]

    def _part(self, choice: Body) -> Body:
        return {**self._same, "object": self.part_object, "choices": [choice], **self._no_usage}

    @abstractmethod
    def _whole_choice(self, text: str) -> Body: ...

    @abstractmethod
    def _part_choice(self, text: str) -> Body: ...

    @abstractmethod
    def _end_choice(self) -> Body: ...


class ChatAnswer(_Answer):
    """Answer of /v1/chat/completions."""

    prefix, whole_object, part_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def first(self) -> list[Body]:
        """Return the part that names the role."""
        delta = {"role": "assistant", "content": ""}
        return [self._part({"delta": delta} | _choice(None))]

    def _whole_choice(self, text: str) -> Body:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _part_choice(self, text: str) -> Body:
        return {"delta": {"content": text}}

    def _end_choice(self) -> Body:
        return {"delta": {}}


class TextAnswer(_Answer):
    """Answer of /v1/completions."""

    prefix, whole_object, part_object = "cmpl", "text_completion", "text_completion"

    def _whole_choice(self, text: str) -> Body:
        return {"text": text}

    def _part_choice(self, text: str) -> Body:
        return {"text": text}

    def _end_choice(self) -> Body:
        return {"text": ""}


def usage(result: Generation) -> Body:
    """Return the numbers of tokens, and the cycles of the device that they took, if any."""
    prompt, new = len(result.prompt), len(result.tokens)
    cycles = {name: phase.cost.stats.cycles
              for name, phase in (("prefill", result.prefill), ("decode", result.decode))}
    counts = {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}
    return counts | ({"device_cycles": cycles} if any(cycles.values()) else {})


def _choice(reason: str | None) -> Body:
    return {"index": 0, "logprobs": None, "finish_reason": reason}


def _reason(result: Generation) -> str:
    return "length" if result.is_cut else "stop"
