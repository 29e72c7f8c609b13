"""The small trained model that is part of the repository and of the wheel."""

from pathlib import Path

__all__ = ["shipped_model"]

#: The same in a checkout and in a wheel, see setup.py.
_PLACE = Path(__file__).parents[1] / "models" / "tiny-qwen2"


def shipped_model() -> Path:
    """Return the directory of the model, relative to the working directory if it is below it.

    Raises :class:`FileNotFoundError` if the directory does not exist.
    """
    if not _PLACE.is_dir():
        raise FileNotFoundError(f"{_PLACE}: the shipped model is missing; name one with --model")
    here = Path.cwd()
    return _PLACE.relative_to(here) if _PLACE.is_relative_to(here) else _PLACE
