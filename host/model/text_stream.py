"""Text of generated tokens: complete characters only, up to a stop text."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

__all__ = ["TextStream"]

#: What a tokenizer decodes from the bytes of an incomplete character.
_INCOMPLETE = "\ufffd"


class TextStream:
    """Decoder of tokens that come one at a time.

    The parts of the text are as long as later tokens allow: the bytes of an incomplete character
    wait for the rest of the character, and the beginning of a stop text waits until it is a stop
    text or is not. Special tokens have no text.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    emit : callable
        Called with each part of the text that is not empty.
    stops : sequence of str
        Texts before the first of which the text ends.

    Members
    -------
    text : str
        All parts so far.
    stopped : bool
        Whether a stop text was found. The stop text is not part of the text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, emit: Callable[[str], None],
                 stops: Sequence[str] = ()):
        if "" in stops:
            raise ValueError("a stop text must not be empty")
        self._tokenizer, self._emit, self._stops = tokenizer, emit, tuple(stops)
        # Decoded text of a token depends on the tokens before it, so some of them are kept.
        self._tokens: list[int] = []
        self._known = 0                 # of these tokens, those whose text was passed on
        self._held = ""
        self.text, self.stopped = "", False

    def put(self, token: int) -> None:
        """Add a token."""
        self._tokens.append(token)
        before, text = self._decoded(self._known), self._decoded(len(self._tokens))
        if len(text) > len(before) and not text.endswith(_INCOMPLETE):
            self._tokens, self._known = self._tokens[self._known:], len(self._tokens) - self._known
            self._pass_on(text[len(before):])

    def end(self) -> None:
        """Pass on the text that was held back, except for an incomplete character."""
        rest = self._decoded(len(self._tokens))[len(self._decoded(self._known)):]
        self._tokens, self._known = [], 0
        self._pass_on(rest.rstrip(_INCOMPLETE))
        self._say(self._held)
        self._held = ""

    def _decoded(self, count: int) -> str:
        text = self._tokenizer.decode(
            self._tokens[:count], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # Of one text, and not of a batch of texts.
        assert isinstance(text, str)
        return text

    def _pass_on(self, text: str) -> None:
        if self.stopped:
            return
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        self.stopped = bool(found)
        keep = 0 if found else max((_overlap(text, stop) for stop in self._stops), default=0)
        end = min(found) if found else len(text) - keep
        self._held = text[end:] if keep else ""
        self._say(text[:end])

    def _say(self, text: str) -> None:
        if text:
            self.text += text
            self._emit(text)


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of a text with which a stop text begins."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1)
                 if text.endswith(stop[:size])), 0)
