"""Targets by name. A target is imported only when it runs, because some need extras."""

from importlib import import_module

from tritstream.scripts.assurance.fuzz.target import Target

__all__ = ["NAMES", "load_target"]

_PLACES = {
    "checkpoint":  ("checkpoint", "TARGET"),
    "quantize":    ("sources", "QUANTIZE"),
    "import":      ("sources", "IMPORT"),
    "gguf":        ("gguf_file", "TARGET"),
    "answers":     ("driver", "TARGET"),
    "board":       ("board", "REGISTERS"),
    "directory":   ("board", "DIRECTORY"),
    "etherbone":   ("board", "ETHERBONE"),
    "serve":       ("served", "TARGET"),
    "journal":     ("resumed", "JOURNAL"),
    "moments":     ("resumed", "MOMENTS"),
    "activations": ("resumed", "ACTIVATIONS"),
    "scores":      ("resumed", "SCORES"),
}

NAMES = tuple(_PLACES)


def load_target(name: str) -> Target:
    """Return a target by its name, or by MODULE:ATTRIBUTE for tests.

    Raises :class:`ValueError` if it does not exist.
    """
    if name in _PLACES:
        module, attribute = _PLACES[name]
        return getattr(import_module(f"{__name__}.{module}"), attribute)
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"{name}: unknown target; use one of {', '.join(NAMES)}")
    return getattr(import_module(module), attribute)
