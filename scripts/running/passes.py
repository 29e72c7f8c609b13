"""Progress of a generation: the prompt layer by layer, then the new tokens."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tritstream.scripts.console import progress

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from transformers import PreTrainedModel

__all__ = ["shown_passes"]


@contextmanager
def shown_passes(
    model: "PreTrainedModel", layers: Iterable[str], prompt: int, tokens: int, show_tokens: bool,
) -> Iterator[None]:
    """Show the progress of a generation within the context.

    Parameters
    ----------
    model : PreTrainedModel
    layers : iterable of str
        Names of the modules whose products take most of the time.
    prompt : int
        Number of tokens of the prompt.
    tokens : int
        Maximum number of new tokens.
    show_tokens : bool
        Show the new tokens, too. On a terminal, a bar would overwrite their text.
    """
    from tritstream.host.model.generation import CHUNK

    with ExitStack() as stack:
        names, chunks = list(layers), -(-prompt // CHUNK)
        passes = _Passes(stack, chunks, tokens, show_tokens)
        stack.callback(passes.close)
        passes.show("reading the prompt", chunks * len(names))
        for name in names:
            layer = model.get_submodule(name)
            hook = layer.register_forward_hook(lambda *_, name=name: passes.layer(name))
            stack.callback(hook.remove)
        stack.callback(model.register_forward_hook(lambda *_: passes.end()).remove)
        yield


class _Passes:
    """Progress of the passes over the prompt, and of the passes that follow."""

    def __init__(self, stack: ExitStack, chunks: int, tokens: int, show_tokens: bool):
        self._shown = stack.enter_context(ExitStack())
        self._chunks, self._tokens, self._show_tokens = chunks, tokens, show_tokens
        self._advance: Callable[..., None] | None = None

    def show(self, what: str, total: int) -> None:
        self._advance = self._shown.enter_context(progress(what, total))

    def close(self) -> None:
        self._shown.close()
        self._advance = None

    def layer(self, name: str) -> None:
        """Count a layer that is finished."""
        if self._chunks and self._advance:
            self._advance(1, name)

    def end(self) -> None:
        """Count a pass; all but the first ones of a long prompt have produced a token."""
        if self._chunks:
            self._chunks -= 1
            if self._chunks:
                return
            self.close()
            if self._show_tokens:
                self.show("generating tokens", self._tokens)
        if self._advance:
            self._advance(1)
