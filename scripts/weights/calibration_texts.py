"""Texts of a calibration: files, random tokens, and text that the model writes itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritstream.scripts.console import console, progress
from tritstream.scripts.corpus import read_text
from tritstream.scripts.streams import storable
from tritstream.scripts.weights.token_windows import WINDOW, text_windows

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["RANDOM", "SELF", "CalibrationText", "calibration_texts", "read_windows",
           "warn_of_few"]

#: Names that stand for random tokens of the vocabulary, and for text that the model writes, in
#: place of a file.
RANDOM, SELF = "random", "self"


@dataclass(frozen=True)
class CalibrationText:
    """One text of a calibration.

    Members
    -------
    given : str
        Name of the file as given, or :data:`RANDOM`, or :data:`SELF`.
    sha256 : str or None
        SHA-256 of the text; None if it is not of a file.
    """

    given:  str
    sha256: str | None

    @property
    def name(self) -> str:
        """Name without directories."""
        return self.given if self.sha256 is None else storable(Path(self.given).name)

    @property
    def record(self) -> dict[str, str | None]:
        """Description for the calibration file."""
        return {"text": self.name, "text_sha256": self.sha256}

    def __str__(self) -> str:
        return self.name + (f", SHA-256 {self.sha256[:16]}" if self.sha256 else "")


def calibration_texts(given: Iterable[str], random: bool = True) -> list[CalibrationText]:
    """Return the texts with these names, each once, and with ``random`` also :data:`RANDOM`.

    Random tokens show inputs that no text shows, so that a calibration also holds for other text.

    Raises :class:`ValueError` for a file that is not text in UTF-8.
    """
    return [CalibrationText(name, None if name in (RANDOM, SELF) else read_text(Path(name)).sha256)
            for name in dict.fromkeys([*given, RANDOM] if random else given)]


def read_windows(
    path: Path, texts: Sequence[CalibrationText], tokens: int,
    load: "Callable[[], PreTrainedModel]",
) -> "list[Tensor]":
    """Return windows of token ids, int64 (T,) each: an equal share of them from each text.

    Parameters
    ----------
    path : Path
        Checkpoint of the model, for its tokenizer.
    texts : sequence of CalibrationText
    tokens : int
        Number of tokens to read in all. A text that is shorter than its share is read completely.
    load : callable
        Returns the unquantized model, to write the text :data:`SELF`.
    """
    count = max(1, tokens // WINDOW // len(texts))
    return [window for text in texts for window in _windows(path, text, count, load)]


def _windows(
    path: Path, text: CalibrationText, count: int, load: "Callable[[], PreTrainedModel]",
) -> "Iterable[Tensor]":
    if text.sha256 is not None:
        windows = text_windows(path, Path(text.given))
        if len(windows) < count:
            _warn(f"{text.name}: has {sum(map(len, windows))} tokens, but {WINDOW * count} are its "
                  "share; give a longer text, or fewer tokens")
        return _spread(windows, count)
    if text.given == RANDOM:
        return _random_windows(path, count)
    return _self_windows(path, count, load())


def _spread(windows: "Sequence[Tensor]", count: int) -> "Iterator[Tensor]":
    """Yield at most ``count`` windows, at even distances."""
    count = min(count, len(windows))
    return (windows[index * len(windows) // count] for index in range(count))


def warn_of_few(tokens: int, widths: Mapping[str, int]) -> None:
    """Warn if fewer tokens are read than the widest matrix has columns; ``widths`` are by name."""
    name, columns = max(widths.items(), key=lambda item: item[1])
    if tokens < columns:
        _warn(f"{tokens} tokens cannot tell the {columns} inputs of {name} apart, so that the "
              f"calibration holds for little other text; read more tokens, or add the text {SELF}")


def _warn(text: str) -> None:
    console.print(f"warning: {text}", markup=False, soft_wrap=True)


def _random_windows(path: Path, count: int) -> "list[Tensor]":
    from tritstream.host.model.calibration import random_windows
    from tritstream.host.model.load import load_tokenizer

    tokenizer = load_tokenizer(path)
    return random_windows(len(tokenizer), tokenizer.all_special_ids, WINDOW, count)


def _self_windows(path: Path, count: int, model: "PreTrainedModel") -> "list[Tensor]":
    from tritstream.host.model.load import load_tokenizer
    from tritstream.host.model.scoring import tokenize
    from tritstream.host.model.self_text import self_windows

    tokenizer = load_tokenizer(path)
    with progress("writing text", WINDOW * count) as advance:
        return self_windows(model, len(tokenizer), tokenizer.all_special_ids, WINDOW, count,
                            start=tokenize(tokenizer, "").ids.tolist(), progress=advance)
