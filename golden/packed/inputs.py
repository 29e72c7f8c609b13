"""Members of ``quantization_config`` about the inputs of packed matrices."""

from collections.abc import Mapping
from pathlib import Path

from tritstream.golden.activation import RULES, SYMMETRIC
from tritstream.golden.errors import CheckpointError
from tritstream.golden.inputs import Inputs

__all__ = ["VERSION", "read_inputs"]

#: Format version that added these members.
VERSION = 5


def read_inputs(path: Path, fields: Mapping) -> Inputs:
    """Return what a packed model does with the inputs of its matrices.

    ``path`` is that of config.json, ``fields`` its ``quantization_config``.

    Raises :class:`.CheckpointError` for a rule that this reader does not know.
    """
    rule = fields.get("activations", SYMMETRIC)
    if rule not in RULES:
        raise CheckpointError(f"{path}: activations must be one of {', '.join(RULES)}, not "
                              f"{rule!r:.40}; update tritstream")
    return Inputs(rule)
