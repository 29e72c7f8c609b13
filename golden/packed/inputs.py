"""Members of ``quantization_config`` about the inputs of packed matrices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tritstream.golden.activation import RULES, SYMMETRIC
from tritstream.golden.errors import CheckpointError
from tritstream.golden.inputs import ACTIVATIONS, ROTATION, TRANSFORM, Inputs
from tritstream.golden.packed.metadata import damaged
from tritstream.golden.rotation import Rotation

__all__ = ["VERSION", "read_inputs"]

#: Format version that added these members.
VERSION = 5
_MEMBERS = {"transform", "block", "signs", "modules"}


def read_inputs(path: Path, fields: Mapping, columns: Mapping[str, int]) -> Inputs:
    """Return what a packed model does with the inputs of its matrices.

    ``path`` is that of config.json, ``fields`` its ``quantization_config``, and ``columns`` are the
    columns of each packed matrix by name, without slices.

    Raises :class:`.CheckpointError` for a rule or a transform that this reader does not know, and
    for a rotation that does not fit the matrices.
    """
    rule = fields.get(ACTIVATIONS, SYMMETRIC)
    if rule not in RULES:
        raise CheckpointError(f"{path}: {ACTIVATIONS} must be one of {', '.join(RULES)}, not "
                              f"{rule!r:.40}; update tritstream")
    if ROTATION not in fields:
        return Inputs(rule)
    rotation = _rotation(path, fields[ROTATION])
    for name in sorted(rotation.modules):
        fault = rotation.fault(columns[name]) if name in columns else "is no packed matrix"
        if fault:
            raise damaged(path, f"{ROTATION} names {name}, which {fault}")
    return Inputs(rule, rotation)


def _rotation(path: Path, record: Any) -> Rotation:
    if isinstance(record, dict) and (record.get("transform") != TRANSFORM
                                     or record.keys() - _MEMBERS):
        raise CheckpointError(f"{path}: {ROTATION} has transform {record.get('transform')!r:.40} "
                              f"and members {', '.join(sorted(record))}, which this version does "
                              "not know; update tritstream")
    try:
        block, modules = record["block"], frozenset(record["modules"])
        signs = {int(columns): _signs(int(columns), digits)
                 for columns, digits in record["signs"].items()}
        if type(block) is not int or block < 2 or block & (block - 1) or not modules:
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise damaged(path, f"{ROTATION} cannot be read") from None
    return Rotation(block, signs, modules)


def _signs(columns: int, digits: str) -> np.ndarray:
    """Return signs (columns,) from a bit for each, the first one lowest, 1 for -1."""
    data = bytes.fromhex(digits)
    if len(data) != -(-columns // 8):
        raise ValueError
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=columns, bitorder="little")
    return 1 - 2 * bits.astype(np.int8)
