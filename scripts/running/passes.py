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
    model: "PreTrainedModel", layers: Iterable[str], tokens: int, show_tokens: bool,
) -> Iterator[None]:
    """Show the progress of a generation within the context.

    Parameters
    ----------
    model : PreTrainedModel
    layers : iterable of str
        Names of the modules whose products take most of the time.
    tokens : int
        Maximum number of new tokens.
    show_tokens : bool
        Show the new tokens, too. On a terminal, a bar would overwrite their text.
    """
    with ExitStack() as stack:
        passes = _Passes(stack, tokens, show_tokens)
        stack.callback(passes.close)
        names = list(layers)
        passes.show("reading the prompt", len(names))
        for name in names:
            layer = model.get_submodule(name)
            hook = layer.register_forward_hook(lambda *_, name=name: passes.layer(name))
            stack.callback(hook.remove)
        stack.callback(model.register_forward_hook(lambda *_: passes.end()).remove)
        yield


class _Passes:
    """Progress of the pass over the prompt, and of the passes that follow."""

    def __init__(self, stack: ExitStack, tokens: int, show_tokens: bool):
        self._shown = stack.enter_context(ExitStack())
        self._tokens, self._show_tokens = tokens, show_tokens
        self._advance: Callable[..., None] | None = None
        self._is_first = True

    def show(self, what: str, total: int) -> None:
        self._advance = self._shown.enter_context(progress(what, total))

    def close(self) -> None:
        self._shown.close()
        self._advance = None

    def layer(self, name: str) -> None:
        """Count a layer that is finished."""
        if self._is_first and self._advance:
            self._advance(1, name)

    def end(self) -> None:
        """Count a pass, which has produced a token."""
        if self._is_first:
            self._is_first = False
            self.close()
            if self._show_tokens:
                self.show("generating tokens", self._tokens)
        if self._advance:
            self._advance(1)
