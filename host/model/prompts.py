"""Token ids of prompts: plain texts, and conversations in a chat template."""

from collections.abc import Mapping, Sequence
from typing import cast

from jinja2 import TemplateError
from transformers import BatchEncoding, PreTrainedConfig, PreTrainedTokenizerBase

from tritstream.golden.errors import CheckpointError

__all__ = ["Message", "NoTemplate", "chat_tokens", "context_length", "prompt_tokens",
           "text_tokens"]

#: A message of a conversation: ``role`` (system, user or assistant) and ``content``.
Message = Mapping[str, str]


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: str, chat: bool, system: str | None = None,
) -> list[int]:
    """Return the token ids of a prompt; for ``chat``, of a user message in the chat template.

    ``system`` is the system message before the user message. Raises the errors of
    :func:`text_tokens` and :func:`chat_tokens`, and :class:`ValueError` for a system message
    without ``chat``.
    """
    if not chat:
        if system is not None:
            raise ValueError("a system message needs a chat template; give --chat too")
        return text_tokens(tokenizer, prompt)
    before = [] if system is None else [{"role": "system", "content": system}]
    try:
        return chat_tokens(tokenizer, [*before, {"role": "user", "content": prompt}])
    except NoTemplate as error:
        raise CheckpointError(f"{error}; leave out --chat") from None


def text_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a text.

    Raises :class:`ValueError` for a text that has no token or is not valid UTF-8.
    """
    return _some(tokenizer(_utf8(text)).input_ids)


def chat_tokens(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Return the token ids of a conversation, up to where the answer of the assistant begins.

    Raises :class:`NoTemplate` if the tokenizer has no chat template, and :class:`ValueError` if
    the template refuses the messages or a message is not valid UTF-8.
    """
    if tokenizer.chat_template is None:
        raise NoTemplate(f"{tokenizer.name_or_path}: has no chat template")
    plain = [{name: _utf8(value) for name, value in message.items()} for message in messages]
    try:
        encoding = tokenizer.apply_chat_template(
            plain, add_generation_prompt=True, return_dict=True)
    except TemplateError as error:
        raise ValueError(f"the chat template refuses the messages ({error})") from None
    # The annotation of the method covers all combinations of its arguments.
    return _some(cast(BatchEncoding, encoding).input_ids)


class NoTemplate(CheckpointError):
    """The tokenizer of a checkpoint has no chat template."""


def context_length(config: PreTrainedConfig) -> int | None:
    """Return the number of tokens that a text may have in all; None if the model has no limit."""
    return getattr(config.get_text_config(), "max_position_embeddings", None) or None


def _some(ids: list[int]) -> list[int]:
    if not ids:
        raise ValueError("the prompt has no token; give some text")
    return ids


def _utf8(text: str) -> str:
    """Return the text of an argument, in which Python escapes bytes that are not of the locale."""
    try:
        return text.encode("utf-8", "surrogateescape").decode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise ValueError(f"the prompt is not UTF-8 at byte {error.start}; give it in "
                         "UTF-8") from None
