"""Packed checkpoints, read as docs/packed-format.md has them."""

import json
import struct
import zlib
from math import prod
from typing import NamedTuple

__all__ = ["DIGIT_FORMS", "FORMS", "Grouped", "Matrix", "Rejected", "read_checkpoint"]

_SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
          "U16": 2, "U8": 1, "I8": 1, "BOOL": 1}
_KNOWN_VERSION = 5
#: Names of all forms.
FORMS = {"s*q/h", "s*(q/h)", "s/h*q", "s*q/h via float16", "s*q/h via bfloat16"} | {
    f"{order} in {name}" for order in ("s*q/h", "s*(q/h)", "s/h*q")
    for name in ("float16", "bfloat16")}
#: How digits are computed before they are added up.
DIGITS = ["sum t*R(s*p/h)", "sum t*R(s*R(p/h))", "sum t*R(z*R(p/m))", "sum t*R(3*P)",
          "sum t*R(P/3)"]
HALVES = ("float16", "bfloat16")
DIGIT_FORMS = {f"{rule} {how} in {name}" for name in HALVES for rule in (
    *DIGITS, "sum t*R(R(s*p)/h)", "(sum t*R(s*p))/h", "s*(sum t*R(p/h))", "z*(sum t*R(p/m))")
    for how in ("low first", "high first", "at once")}
DIGIT_FORMS |= {f"{rule} unrounded in {name}" for name in HALVES
                for rule in (*DIGITS, "sum t*R(R(s*p)/h)")}
DIGIT_FORMS |= {f"{rule} {how} in float32" for how in ("low first", "high first") for rule in (
    "sum t*R(s*p/h)", "sum t*R(s*R(p/h))", "sum t*R(R(s/h)*p)", "sum t*R(3*P)",
    "(sum t*R(s*p))/h", "s*(sum t*R(p/h))")}


class Rejected(Exception):
    """A checkpoint that a reader must reject."""


class Matrix(NamedTuple):
    """A packed matrix: its tiles as bytes, its table as 27 bit patterns."""

    depth: int
    shape: tuple
    tiles: bytes
    table: list
    form:  str
    dtype: str
    axes:  str = ""


class Grouped(NamedTuple):
    """A packed matrix of version 5: trits and codes as bytes, scales as rows of bit patterns."""

    depth:  int
    shape:  tuple
    group:  int
    kind:   str
    trits:  bytes
    scales: list
    codes:  bytes
    stored: str
    form:   str
    dtype:  str
    axes:   str = ""


class _Tensor(NamedTuple):
    dtype:  str
    shape:  tuple
    data:   bytes
    record: dict


def read_checkpoint(folder):
    """Matrices by module name, and the bytes of the tensors that were kept, by name."""
    config = json.loads((folder / "config.json").read_bytes())
    fields = config.get("quantization_config")
    _demand(isinstance(fields, dict), "quantization_config")
    _demand(fields.get("quant_method") == "tritstream", "quant_method")
    version = fields.get("format_version")
    _demand(type(version) is int and 1 <= version <= _KNOWN_VERSION, "format_version")
    size = fields.get("group_size")
    _demand(size == 16 or (version > 4 and type(size) is int and size > 0 and size % 16 == 0),
            "group_size")
    tensors = _tensors(folder, fields)
    names = [name.removesuffix(".trits") for name in tensors if name.endswith(".trits")]
    depths = fields.get("depths", {})
    _demand(bool(names) and depths.keys() <= set(names), "depths")
    matrices = {name: _matrix(name, tensors, depths.get(name, fields["depth"])) for name in names}
    _check_slices(matrices, tensors)
    packed = {name + end for name in names for end in (".trits", ".scales")}
    packed |= {f"{name}.codes" for name, matrix in matrices.items()
               if isinstance(matrix, Grouped) and matrix.kind == "coded"}
    kept = {name: tensor for name, tensor in tensors.items() if name not in packed}
    for name, tensor in kept.items():
        _demand(tensor.record["shape"] == list(tensor.shape), f"shape of {name}")
    return matrices, {name: tensor.data for name, tensor in kept.items()}


def _check_slices(matrices, tensors):
    """All slices of a tensor are there, and alike."""
    stacked = {}
    for name, matrix in matrices.items():
        if matrix.axes:
            tensor, _, index = name.rpartition(".")
            stacked.setdefault(tensor, {})[index] = matrix
    for tensor, slices in stacked.items():
        _demand(slices.keys() == set(map(str, range(len(slices)))), f"slices of {tensor}")
        _demand(len({(one.shape, one.dtype, one.axes) for one in slices.values()}) == 1,
                f"slices of {tensor}")
        _demand(tensor not in tensors, tensor)


def _tensors(folder, fields):
    """Tensors of all shards by name."""
    single = "model.safetensors"
    if "weights" in fields:
        single = "packed.safetensors"
        listed = fields["weights"] == f"{single}.index.json"
        _demand(listed or fields["weights"] == single, "weights")
        _demand((folder / single).is_file() != listed, "weights")
    if (folder / single).is_file():
        return _shard(folder / single)
    places = json.loads((folder / f"{single}.index.json").read_bytes())["weight_map"]
    found = {}
    for file in sorted(set(places.values())):
        _demand("/" not in file and file.endswith(".safetensors"), file)
        shard = _shard(folder / file)
        _demand(not found.keys() & shard.keys(), "a name in two shards")
        found |= shard
        _demand({name for name, place in places.items() if place == file} <= shard.keys(), file)
    return found


def _shard(path):
    data = path.read_bytes()
    _demand(len(data) >= 8, "length")
    size, = struct.unpack_from("<Q", data)
    _demand(size <= len(data) - 8, "header's length")
    text, body = data[8:8 + size], data[8 + size:]
    header = json.loads(text)
    metadata = header.pop("__metadata__")
    _check_header(text, metadata)
    records = json.loads(metadata["tritstream"])
    _demand(records.keys() == header.keys(), "records")
    found, place = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        _demand(start == place <= end, f"place of {name}")
        if entry["dtype"] in _SIZES:
            _demand(end - start == prod(entry["shape"]) * _SIZES[entry["dtype"]], f"size of {name}")
        _check_record(records[name], body[start:end])
        found[name] = _Tensor(entry["dtype"], tuple(entry["shape"]), body[start:end], records[name])
        place = end
    _demand(place == len(body), "end of the file")
    return found


def _check_header(text, metadata):
    digits = metadata.get("tritstream_header_crc32", "")
    literal = b'"tritstream_header_crc32":"%s"'
    blank = text.replace(literal % digits.encode(), literal % b"00000000", 1)
    _demand(len(digits) == 8 and literal % digits.encode() in text
            and f"{zlib.crc32(blank):08x}" == digits, "the header's CRC-32")


def _check_record(record, data):
    _demand(record.keys() <= {"shape", "crc32", "form", "dtype", "axes", "group", "scales"},
            "a record's members")
    _demand(f"{zlib.crc32(data):08x}" == record["crc32"], "a tensor's CRC-32")
    _demand(record.get("form", "s*q/h") in FORMS | DIGIT_FORMS, "form")
    _demand(record.get("dtype", "F16") in ("F16", "BF16", "F32"), "dtype")
    _demand(record.get("axes", "NK") in ("NK", "KN"), "axes")


def _matrix(name, tensors, depth):
    trits, scales = tensors[f"{name}.trits"], tensors.get(f"{name}.scales")
    _demand(scales is not None, f"{name}.scales")
    _demand(type(depth) is int and 1 <= depth <= 4, "depth")
    rows, columns = trits.record["shape"]
    if "scales" in trits.record:
        return _grouped(name, tensors, depth)
    expected = -(-rows // 5), -(-columns // 16), 16 * depth + 3
    _demand((trits.dtype, trits.shape) == ("U8", expected), f"{name}.trits")
    _demand((scales.dtype, scales.shape) == ("F32", (27,)), f"{name}.scales")
    table = [f"{bits:08x}" for bits in struct.unpack("<27I", scales.data)]
    return Matrix(depth, (rows, columns), trits.data, table, trits.record.get("form", "s*q/h"),
                  trits.record.get("dtype", "F16"), trits.record.get("axes", ""))


def _grouped(name, tensors, depth):
    trits, scales, codes = (tensors.get(f"{name}.{end}") for end in ("trits", "scales", "codes"))
    rows, columns = trits.record["shape"]
    group, kind = trits.record.get("group", 16), trits.record["scales"]
    padded = -(-columns // 16) * 16
    _demand(type(group) is int and group % 16 == 0 and 16 <= group <= padded, "group")
    _demand((trits.dtype, trits.shape) == ("U8", (-(-rows // 5), padded * depth)), f"{name}.trits")
    count, data = -(-columns // group), scales.data
    if kind == "coded":
        _demand((scales.dtype, scales.shape) == ("F32", (27,)), f"{name}.scales")
        _demand(codes and (codes.dtype, codes.shape) == ("U8", (-(-rows // 5), count, 3)),
                f"{name}.codes")
    else:
        _demand(kind in ("direct", "inverse") and scales.dtype in ("F16", "BF16", "F32"), kind)
        _demand(scales.shape == (rows, count) or (scales.shape, count) == ((1, 1), 1),
                f"{name}.scales")
    size = _SIZES[scales.dtype]
    values = [data[at:at + size][::-1].hex() for at in range(0, len(data), size)]
    width = scales.shape[-1]
    return Grouped(depth, (rows, columns), group, kind, trits.data,
                   [values[at:at + width] for at in range(0, len(values), width)],
                   codes.data if kind == "coded" else b"", scales.dtype,
                   trits.record.get("form", "s*q/h"), trits.record.get("dtype", "F16"),
                   trits.record.get("axes", ""))


def _demand(condition, what):
    if not condition:
        raise Rejected(what)
