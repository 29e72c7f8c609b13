"""Packed checkpoints of the vectors, written by the project's own writer, as bytes."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.checkpoints.safetensors_writer import Data
from tritstream.golden.checkpoints.sharding import Part
from tritstream.golden.checkpoints.slices import INPUTS_FIRST, OUTPUTS_FIRST
from tritstream.golden.checkpoints.source import CONFIG, Source
from tritstream.golden.checkpoints.weight_files import (
    PACKED,
    PLAIN,
    REFUSAL_FIELD,
    REFUSAL_INDEX,
    SINGLE,
    WEIGHTS,
    plain_name,
)
from tritstream.golden.fixed_point import SCALES, half_range
from tritstream.golden.jobs.directory_job import write_json
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.packed.apart_packer import ApartPacking
from tritstream.golden.packed.metadata import marks_of
from tritstream.golden.packed.plan import Plan
from tritstream.golden.rounding import FORM, FORMS, DigitForm
from tritstream.golden.tiles import pack
from tritstream.scripts.assurance.vectors.groups import GroupCase
from tritstream.scripts.assurance.vectors.matrices import Case
from tritstream.scripts.assurance.vectors.numbers import integers

__all__ = [
    "FORM_CASES", "FormCase", "digit_cases", "digits_checkpoint", "expert_cases",
    "experts_checkpoint", "form_cases", "forms_checkpoint", "groups_checkpoint",
    "plain_checkpoint",
]

_CODEC = "vectors"


@dataclass(frozen=True)
class FormCase:
    """A matrix whose weights are computed in a form and rounded to a dtype.

    ``axes`` are those of a slice of a tensor with three dimensions, else None.
    """

    name:   str
    dtype:  str
    matrix: TritMatrix
    axes:   str | None = None


#: Dtypes and depths to try each form with. Where h is 1 or 4, forms differ too little.
FORM_CASES = MappingProxyType({
    name: (("F16", 1), ("BF16", 2), ("F32", 3)) if name == "s*q/h" else
    (("F16" if name.endswith(" in float16") else "BF16" if name.endswith(" in bfloat16") else
      "F32", 3 + number % 2),)
    for number, name in enumerate(FORMS) if not isinstance(FORMS[name], DigitForm)})


@dataclass(frozen=True)
class _Held:
    """Tensor in memory. A matrix to be packed has a shape and no bytes."""

    name:  str
    dtype: str
    shape: tuple[int, ...]
    data:  bytes = b""
    path:  Path = Path("vectors")

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self) -> np.ndarray:
        return np.frombuffer(self.data, DTYPES[self.dtype]).reshape(self.shape)

    def pieces(self) -> Iterator[bytes]:
        yield self.data


class _HeldSource(Source):
    """Source in memory, with the members that a plan of a packed checkpoint uses."""

    path = Path("vectors")

    def __init__(self, shards: Mapping[str, list[_Held]]):
        self.config = {"model_type": "vectors"}
        self.shards = {name: Part({}, {tensor.name: tensor for tensor in tensors})
                       for name, tensors in shards.items()}
        self.sharded = list(shards) != [SINGLE]
        self.tensors = {tensor.name: tensor for tensors in shards.values() for tensor in tensors}

    def files(self) -> list[Path]:
        """Return no files."""
        return []

    def write_companions(self, directory: Path) -> None:
        """Write nothing."""


def plain_checkpoint(cases: list[Case], kept: bool = True) -> dict[str, bytes]:
    """Return the files of a checkpoint with one shard and matrices of one depth; version 1.

    It has an unquantized tensor, too, if ``kept``.
    """
    tensors = [*([_kept("norm.weight", "BF16", 3)] if kept else []),
               *(_Held(f"{case.name}.weight", "BF16", case.shape) for case in cases)]
    tiles = {case.name: (case.tiles, case.table) for case in cases}
    return _files({SINGLE: tensors}, tiles, cases[0].depth, {}, {})


def form_cases() -> list[FormCase]:
    """Return a matrix for each form and dtype."""
    tried = [(form, *each) for form, tried in FORM_CASES.items() for each in tried]
    return [FormCase(f"forms.{number}", dtype, _all_levels(number, form, depth))
            for number, (form, dtype, depth) in enumerate(tried)]


def digit_cases() -> list[FormCase]:
    """Return a matrix of depth 4 for each form that adds up digits. All digits are finite."""
    return [FormCase(f"digits.{number}", _own_dtype(form),
                     _all_levels(number, form.name, 4, "digits", 0.75))
            for number, form in enumerate(FORMS.values()) if isinstance(form, DigitForm)]


def digits_checkpoint(cases: list[FormCase], before: bool = True) -> dict[str, bytes]:
    """Return the files of a checkpoint with one shard; version 3.

    ``before`` gives the files the names of tritstream 0.1.0.
    """
    tiles = {case.name: (pack(case.matrix), case.matrix.table) for case in cases}
    marks = {case.name: marks_of(case.matrix.form, case.dtype) for case in cases}
    return _files({SINGLE: [_unpacked(case) for case in cases]}, tiles, 4, {}, marks, before)


def expert_cases() -> list[FormCase]:
    """Two experts of a tensor per order of axes; the second ones are deeper."""
    return [FormCase(f"experts.{name}.{index}", "F16",
                     _all_levels(2 * number + index, "s*q/h", 3 + index, "experts", 1), axes)
            for number, (name, axes) in enumerate((("down", OUTPUTS_FIRST), ("up", INPUTS_FIRST)))
            for index in range(2)]


def experts_checkpoint(cases: list[FormCase]) -> dict[str, bytes]:
    """Files of a checkpoint of one shard whose matrices are slices; version 4, two depths."""
    tiles = {case.name: (pack(case.matrix), case.matrix.table) for case in cases}
    marks = {case.name: marks_of(case.matrix.form, case.dtype, case.axes) for case in cases}
    depths = {case.name: case.matrix.depth for case in cases}
    return _files({SINGLE: [_unpacked(case) for case in cases]}, tiles, 3, depths, marks, False)


def groups_checkpoint(cases: Sequence[GroupCase]) -> dict[str, bytes]:
    """Return the files of a checkpoint of one shard; version 5, several layouts and depths."""
    names = {case: f"groups.{case.name}" for case in cases}
    tensors = [_Held(f"{name}.weight", "F32", case.matrix.shape) for case, name in names.items()]
    values = {name: [b"".join(map(_bytes, data)) for data in
                     ApartPacking(case.matrix, case.layout).tensors(name).values()]
              for case, name in names.items()}
    return _files({SINGLE: tensors}, values, 1, {names[case]: case.matrix.depth for case in cases},
                  {names[case]: marks_of(FORM, "F32") for case in cases}, False,
                  {names[case]: case.layout for case in cases})


def _bytes(data: Data) -> bytes:
    return data.tobytes() if isinstance(data, np.ndarray) else data


def _own_dtype(form: DigitForm) -> str:
    return next(name for name, dtype in DTYPES.items() if dtype == form.last)


def forms_checkpoint(cases: list[FormCase], before: bool = True) -> dict[str, bytes]:
    """Return the files of two shards with an index; version 2, several depths and dtypes.

    ``before`` gives the files the names of tritstream 0.1.0.
    """
    half = len(cases) // 2
    shards = {
        "model-00001-of-00002.safetensors": [
            _kept("model.embed_tokens.weight", "BF16", 3, 5), *map(_unpacked, cases[:half])],
        "model-00002-of-00002.safetensors": [
            _kept("note", "U8", 7), _kept("counter", "I64"), *map(_unpacked, cases[half:]),
            _kept("mask", "BOOL", 3), _kept("empty", "F16", 0, 4), _kept("bias", "F32", 2)],
    }
    tiles = {case.name: (pack(case.matrix), case.matrix.table) for case in cases}
    depths = {case.name: case.matrix.depth for case in cases}
    marks = {case.name: marks_of(case.matrix.form, case.dtype) for case in cases}
    return _files(shards, tiles, 3, depths, marks, before)


def _files(
    shards, tiles, depth, depths, marks, before=True, layouts=MappingProxyType({}),
) -> dict[str, bytes]:
    """Return the files by name, as the packer plans them, or as tritstream 0.1.0 wrote them."""
    source = _HeldSource(shards)
    matrices = {name: source.tensors[f"{name}.weight"] for name in tiles}
    plan = Plan(source, matrices, depth, depths=depths, kept=("lm_head",), codec=_CODEC,
                marks=marks, layouts=layouts)
    with tempfile.TemporaryDirectory(prefix="tritstream-") as folder:
        place = Path(folder)
        for file in shards:
            _write_shard(plan, file, place, tiles)
        write_json(place / CONFIG, plan.config())
        if source.sharded:
            write_json(place / PACKED.index, plan.index())
        if before:
            _name_as_before(place)
        else:
            write_json(place / PLAIN.index, REFUSAL_INDEX)
        return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def _name_as_before(place: Path) -> None:
    """Give the files of a packed checkpoint the names of tritstream 0.1.0."""
    for path in [*place.glob("packed*.safetensors"), *place.glob(PACKED.index)]:
        path.rename(place / plain_name(path.name))
    config = json.loads((place / CONFIG).read_bytes())
    del config[REFUSAL_FIELD], config["quantization_config"][WEIGHTS]
    write_json(place / CONFIG, config)
    if (place / PLAIN.index).is_file():
        index = json.loads((place / PLAIN.index).read_bytes())
        index["weight_map"] = {name: plain_name(file) for name, file in index["weight_map"].items()}
        write_json(place / PLAIN.index, index)


def _write_shard(plan: Plan, file: str, place: Path, tiles) -> None:
    writer, checksums = plan.writer(file, place), {}
    writer.allocate()
    for tensor in plan.source.shards[file].tensors.values():
        name = plan.module_of(tensor)
        data = ({tensor.name: tensor.read()} if name is None else
                dict(zip((name + suffix for suffix in plan.layout_of(name).suffixes), tiles[name],
                         strict=True)))
        for written, value in data.items():
            checksums[written] = writer.write(written, [_bytes(value)])
    writer.finish(checksums)


def _kept(name: str, dtype: str, *shape: int) -> _Held:
    limit = 2 if dtype == "BOOL" else 256
    count = prod(shape) * DTYPES[dtype].itemsize
    data = integers(f"kept/{name}", limit, count).astype(np.uint8).tobytes()
    return _Held(name, dtype, shape, data)


def _unpacked(case: FormCase) -> _Held:
    return _Held(f"{case.name}.weight", case.dtype, case.matrix.shape)


def _all_levels(
    number: int, form: str, depth: int, name: str = "forms", largest: float = 100001,
) -> TritMatrix:
    """Return a matrix with all integers of its depth, and scales from 2^-24 to ``largest``.

    There are subnormals of float16 among its weights; one is an infinity where ``largest`` is more
    than float16 holds.
    """
    shape, half = (12, 16), half_range(depth)
    q = (np.arange(prod(shape)).reshape(shape) % (2 * half + 1) - half).astype(np.int8)
    table = integers(f"{name}/{number}/table", 2 ** 24 - 1, SCALES) + 1.0
    table = np.ldexp(table, -np.arange(18, 18 + SCALES)).astype(np.float32)
    table[-1] = largest
    codes = integers(f"{name}/{number}/codes", SCALES, shape[0], 1).astype(np.uint8)
    codes[-1] = SCALES - 1
    return TritMatrix(depth, shape, q, codes, table, FORMS[form])
