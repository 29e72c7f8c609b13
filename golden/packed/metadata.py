"""Metadata of packed checkpoints: ``quantization_config``, and ``__metadata__`` of shards."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritstream.golden.checkpoints.safetensors_reader import FLOATS, HEADER_CHECKSUM, Shard
from tritstream.golden.checkpoints.slices import AXES
from tritstream.golden.checkpoints.weight_files import (
    PACKED,
    QUANT_METHOD,
    WEIGHTS,
)
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import GROUP, MAX_DEPTH
from tritstream.golden.packed.layout import KINDS
from tritstream.golden.quantize import CODEC
from tritstream.golden.quantizers.grouping import GROUPING, Grouping
from tritstream.golden.rounding import FORM, FORMS, DigitForm, Form
from tritstream.golden.strict_json import parse_json

__all__ = [
    "CONVERTED", "FORMAT_VERSION", "QUANT_METHOD", "RECOVERED", "Record", "damaged", "grouping_of",
    "marks_of", "quantization_config", "read_config", "read_records", "shard_metadata",
    "version_of",
]

#: Newest format version that this reader knows. :func:`version_of` returns the version of a file.
FORMAT_VERSION = 5
#: First version with groups of other lengths than 16.
_GROUPS_VERSION = 5
#: Codec of imported matrices: their exported weights are bit-identical to their source.
RECOVERED = "recovered"
#: Field of the configuration: source dtypes of converted unquantized tensors, by tensor name.
CONVERTED = "converted"

#: Dtype of exported matrices, unless the metadata state another dtype.
_DTYPE = "F16"
#: Format of the checksums in :func:`shard_metadata`.
_CRC = re.compile("[0-9a-f]{8}")


@dataclass(frozen=True)
class Record:
    """Metadata of a tensor. Fields after ``checksum`` are used for packed matrices only."""

    shape:    tuple[int, ...]
    checksum: int
    form:     Form
    dtype:    str
    axes:     str | None = None
    group:    int = GROUP
    scales:   str | None = None


def quantization_config(
    depth: int, depths: Mapping[str, int], modules_to_not_convert: list[str], *,
    codec: str = CODEC, version: int = 1, sharded: bool = False, group: int = GROUP,
) -> dict:
    """Return the ``quantization_config`` of a packed checkpoint.

    ``depths`` has the modules whose depth is not ``depth``. ``group`` is the most frequent group
    length.
    """
    return {
        "quant_method": QUANT_METHOD, "codec": codec, "format_version": version,
        WEIGHTS: PACKED.index if sharded else PACKED.single,
        "depth": depth, "group_size": group, "modules_to_not_convert": modules_to_not_convert,
        "depths": dict(depths),
    }


def grouping_of(fields: Mapping[str, Any]) -> Grouping:
    """Return group length and kind of scales that a quantizer was asked for.

    ``fields`` are those of a ``quantization_config``. Raises :class:`ValueError` for others.
    """
    return Grouping(fields.get("group", GROUP), fields.get("scales", GROUPING.scales))


def marks_of(form: Form, dtype: str, axes: str | None = None) -> dict[str, str]:
    """Return form, dtype and axes of a matrix as metadata fields, empty for the defaults.

    ``axes``, one of :data:`.AXES`, are those of a slice of a tensor with three dimensions.
    """
    marks = {"form": form.name} if form != FORM else {}
    return marks | ({"dtype": dtype} if dtype != _DTYPE else {}) | ({"axes": axes} if axes else {})


def version_of(marks: Iterable[Mapping[str, object]]) -> int:
    """Return the lowest format version that supports all marks of a checkpoint's matrices.

    Version 2 adds forms and dtypes. Version 3 adds forms that sum digits. Version 4 adds slices of
    tensors with three dimensions. Version 5 adds group lengths and direct scales.
    """
    present = [mark for mark in marks if mark]
    if any("scales" in mark for mark in present):
        return _GROUPS_VERSION
    if any("axes" in mark for mark in present):
        return 4
    if any(isinstance(FORMS[str(mark.get("form", FORM.name))], DigitForm) for mark in present):
        return 3
    return 2 if present else 1


def shard_metadata(
    metadata: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]],
    marks: Mapping[str, Mapping[str, object]], checksums: Mapping[str, str],
) -> dict[str, str]:
    """Return ``__metadata__`` of a shard: of its source, and shape, CRC-32 and marks per tensor."""
    records = {name: {"shape": list(shapes[name]), "crc32": checksums[name], **marks.get(name, {})}
               for name in shapes}
    text = json.dumps(records, separators=(",", ":"))
    return {"format": "pt", **metadata, QUANT_METHOD: text, HEADER_CHECKSUM: "0" * 8}


def read_config(path: Path, config: dict, file: str) -> tuple[int, dict[str, int]]:
    """Return the default depth, and the depths of modules with another depth, by module name.

    ``file`` is the name of the file that holds or lists the weights.

    Raises :class:`CheckpointError` if the configuration is invalid or of a newer format version.
    """
    fields = config.get("quantization_config")
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path}: has no quantization_config; pack the checkpoint first")
    if fields.get("quant_method") != QUANT_METHOD:
        raise CheckpointError(f"{path}: quant_method must be {QUANT_METHOD!r}, not "
                              f"{fields.get('quant_method')!r}; pack the original checkpoint")
    version = fields.get("format_version")
    if type(version) is not int or version < 1:
        raise damaged(path, f"format_version must be a positive integer, not {version!r}")
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{path}: format_version {version} is newer than {FORMAT_VERSION}; "
                              "update tritstream")
    if fields.get(WEIGHTS, file) != file:
        raise damaged(path, f"{WEIGHTS} must be {file!r}, not {fields[WEIGHTS]!r:.60}")
    _check_group_size(path, fields.get("group_size"), version)
    depths = fields.get("depths", {})
    if not isinstance(depths, dict):
        raise damaged(path, f"depths must map names to depths, not {depths!r}")
    for name, depth in [("depth", fields.get("depth")), *depths.items()]:
        if type(depth) is not int or not 1 <= depth <= MAX_DEPTH:
            raise damaged(path, f"{name} must be 1..{MAX_DEPTH}, not {depth!r}")
    _check_making(path, fields)
    return fields["depth"], depths


def read_records(shard: Shard) -> dict[str, Record]:
    """Return the metadata of each tensor of a shard, by name."""
    if HEADER_CHECKSUM not in shard.metadata:
        raise damaged(shard.path, f"its metadata has no {HEADER_CHECKSUM}")
    try:
        records = parse_json(shard.metadata[QUANT_METHOD].encode())
        found = {name: _record(shard.path, name, **record) for name, record in records.items()}
    except CheckpointError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError):
        raise damaged(shard.path, f"{QUANT_METHOD} in its metadata cannot be read") from None
    if found.keys() != shard.tensors.keys():
        name = min(found.keys() ^ shard.tensors.keys())
        raise damaged(shard.path, f"tensors and metadata disagree about {name}")
    return found


def damaged(path: Path, fault: str) -> CheckpointError:
    """Return the error for a damaged file."""
    return CheckpointError(f"{path}: {fault}; copy it again")


def _check_group_size(path: Path, size: object, version: int) -> None:
    if version < _GROUPS_VERSION and size != GROUP:
        raise damaged(path, f"group_size must be {GROUP}, not {size!r}")
    if type(size) is not int or size < GROUP or size % GROUP:
        raise damaged(path, f"group_size must be a multiple of {GROUP}, not {size!r}")


def _check_making(path: Path, fields: dict) -> None:
    """Check the fields that only :func:`tritstream.golden.packed.verify.verify` uses."""
    if not isinstance(fields.get("codec", ""), str):
        raise damaged(path, f"codec must be a name, not {fields['codec']!r}")
    made_with = fields.get("calibration", {"sha256": ""})
    if not (isinstance(made_with, dict) and isinstance(made_with.get("sha256"), str)):
        raise damaged(path, f"calibration must have a sha256, not {made_with!r}")
    converted = fields.get(CONVERTED, {})
    if not (isinstance(converted, dict)
            and all(isinstance(dtype, str) for dtype in converted.values())):
        raise damaged(path, f"{CONVERTED} must map names to dtypes, not {converted!r:.60}")
    try:
        grouping_of(fields)
    except ValueError as error:
        raise damaged(path, str(error)) from None


def _record(
    path: Path, name: str, /, shape: Any, crc32: str, form: str = FORM.name, dtype: str = _DTYPE,
    axes: str | None = None, group: int = GROUP, scales: str | None = None,
) -> Record:
    if not _CRC.fullmatch(crc32) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError
    if form not in FORMS or dtype not in FLOATS:
        raise CheckpointError(f"{path}: {name} has form {form!r} and dtype {dtype!r}, which this "
                              "version does not know; update tritstream")
    if axes is not None and axes not in AXES:
        raise CheckpointError(f"{path}: {name} has axes {axes!r}, which this version "
                              "does not know; update tritstream")
    if scales is not None and scales not in KINDS:
        raise CheckpointError(f"{path}: {name} has scales {scales!r}, which this version does not "
                              "know; update tritstream")
    if type(group) is not int or (scales is None and group != GROUP):
        raise ValueError
    return Record(tuple(shape), int(crc32, 16), FORMS[form], dtype, axes, group, scales)
