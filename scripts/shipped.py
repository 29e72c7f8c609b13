"""The small trained model that comes along: in the repository, and in what pip installs."""

from pathlib import Path

__all__ = ["shipped_model"]

#: In a checkout and in a wheel alike: setup.py.
_PLACE = Path(__file__).parents[1] / "models" / "tiny-qwen2"


def shipped_model() -> Path:
    """Directory of the model, as a path below the working directory where it is there.

    Raises :class:`FileNotFoundError` if the directory does not exist.
    """
    if not _PLACE.is_dir():
        raise FileNotFoundError(f"{_PLACE}: the shipped model is missing; name one with --model")
    here = Path.cwd()
    return _PLACE.relative_to(here) if _PLACE.is_relative_to(here) else _PLACE
