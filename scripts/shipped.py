"""The small trained model that comes along: in the repository, and in what pip installs."""

from pathlib import Path

__all__ = ["shipped_model"]

_HERE = Path(__file__).parent
#: Where a checkout has it, and where a wheel puts it: pyproject.toml.
_PLACES = (_HERE.parent / "models" / "tiny-qwen2", _HERE / "models" / "tiny-qwen2")


def shipped_model() -> Path:
    """Directory of the model, as a path below the working directory where it is there.

    Raises :class:`FileNotFoundError` when it is in none of its places.
    """
    for place in _PLACES:
        if place.is_dir():
            here = Path.cwd()
            return place.relative_to(here) if place.is_relative_to(here) else place
    raise FileNotFoundError(f"{_PLACES[0]}: the shipped model is not there; name one with --model")
