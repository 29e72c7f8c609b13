"""GGUF files: must be read as the gguf package reads them, also after conversion."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from struct import pack, unpack_from
from typing import Any

import numpy as np
from gguf import GGUFReader

from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.gguf.source import GgufSource
from tritstream.scripts.assurance.fuzz.gguf_seeds import gguf_seeds
from tritstream.scripts.assurance.fuzz.mutation import NUMBERS, TEXTS, changed_bytes, changed_number
from tritstream.scripts.assurance.fuzz.target import Broken, Target

__all__ = ["TARGET"]

_STRING, _ARRAY = 8, 9
#: Letter of struct by type of value.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}
_SIZES = {kind: np.dtype(letter).itemsize for kind, letter in _SCALARS.items()}


@dataclass
class _File:
    """Parsed GGUF file: fields (key, type, value), tensors (name, sizes, type, offset)."""

    version: int = 3
    fields:  list[list[Any]] = field(default_factory=list)
    tensors: list[list[Any]] = field(default_factory=list)
    data:    bytes = b""

    def packed(self) -> bytes:
        """Return the file as bytes; numbers that are too large wrap."""
        head = pack("<4sIQQ", b"GGUF", self.version, len(self.tensors), len(self.fields))
        head += b"".join(_text(key) + pack("<I", kind % (1 << 32)) + _value(kind, value)
                         for key, kind, value in self.fields)
        for name, sizes, kind, place in self.tensors:
            head += _text(name) + pack("<I", len(sizes))
            head += b"".join(pack("<Q", size % (1 << 64)) for size in sizes)
            head += pack("<IQ", kind % (1 << 32), place % (1 << 64))
        return head + bytes(-len(head) % 32) + self.data


def _text(text: bytes) -> bytes:
    return pack("<Q", len(text)) + text


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _text(value)
    if kind == _ARRAY:
        inner, values = value
        return pack("<IQ", inner, len(values)) + b"".join(_value(inner, one) for one in values)
    if kind not in _SCALARS:
        return pack("<Q", value)
    letter = _SCALARS[kind]
    if letter in "fd?":
        return pack(f"<{letter}", value)
    return (int(value) % (1 << 8 * _SIZES[kind])).to_bytes(_SIZES[kind], "little")


def _parsed(data: bytes) -> _File:
    """Return a parsed file. Raises IndexError, ValueError or struct.error if it is damaged."""
    place = 24
    _, version, tensors, fields = unpack_from("<4sIQQ", data)
    found = _File(version)

    def take(letter: str) -> Any:
        nonlocal place
        value, = unpack_from(f"<{letter}", data, place)
        place += np.dtype(letter).itemsize
        return value

    def text() -> bytes:
        nonlocal place
        size = take("Q")
        place += size
        if place > len(data):
            raise ValueError
        return data[place - size:place]

    def value(kind: int) -> Any:
        if kind == _STRING:
            return text()
        if kind != _ARRAY:
            return take(_SCALARS[kind])
        inner, count = take("I"), take("Q")
        return [inner, [value(inner) for _ in range(min(count, 1 << 16))]]

    for _ in range(min(fields, 1 << 10)):
        key, kind = text(), take("I")
        found.fields.append([key, kind, value(kind)])
    for _ in range(min(tensors, 1 << 10)):
        name = text()
        sizes = [take("Q") for _ in range(min(take("I"), 8))]
        found.tensors.append([name, sizes, take("I"), take("Q")])
    found.data = data[place + -place % 32:]
    return found


def _changed(data: bytes, rng: Random) -> bytes:
    if rng.random() < 0.25:
        return changed_bytes(data, rng)
    try:
        file = _parsed(data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            _change(file, rng)
        return file.packed()
    except Exception:       # a damaged file, or a value that does not fit its type
        return changed_bytes(data, rng)


def _change(file: _File, rng: Random) -> None:
    what = rng.random()
    if what < 0.6 and file.fields:
        _change_field(file.fields, rng)
    elif what < 0.95 and file.tensors:
        _change_tensor(file.tensors, rng)
    else:
        file.data = changed_bytes(file.data, rng)


def _change_field(fields: list[list[Any]], rng: Random) -> None:
    one, what = rng.choice(fields), rng.random()
    if what < 0.15:
        fields.remove(one)
    elif what < 0.25:
        other = rng.choice(fields)
        fields.append([one[0] if rng.random() < 0.1 else one[0] + b"x", *other[1:]])
    elif what < 0.4:
        one[1:] = rng.choice(fields)[1:]
    elif what < 0.5:
        one[0] = rng.choice(fields)[0]
    elif what < 0.6:
        one[1:] = rng.choice(([_ARRAY, [_STRING, [b"x", b"y"]]], [_STRING, b"yarn"],
                              [6, float("nan")], [12, float("inf")], [6, 0.0], [7, True],
                              [_ARRAY, [_ARRAY, []]], [10, rng.choice(NUMBERS)], [5, -1]))
    else:
        one[2] = _other(one[1], one[2], rng)


def _other(kind: int, value: Any, rng: Random) -> Any:
    if kind == _STRING:
        text = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
        return rng.choice((text, changed_bytes(value, rng), value + text))
    if kind == _ARRAY:
        inner, values = value
        values, at = list(values), rng.randrange(len(values) + 1)
        if values and at < len(values) and rng.random() < 0.7:
            values[at] = _other(inner, values[at], rng)
        else:
            values[at:] = rng.choice((values[:at], values[at:] * 2, values[at:][::-1]))
        return [inner, values]
    if _SCALARS.get(kind) in ("f", "d"):
        return rng.choice((0.0, -1.0, 1e-30, 1e38, float("inf"), float("nan"), value * 2))
    return changed_number(int(value), rng)


def _change_tensor(tensors: list[list[Any]], rng: Random) -> None:
    one, other, what = rng.choice(tensors), rng.choice(tensors), rng.random()
    if what < 0.1:
        tensors.remove(one)
    elif what < 0.2:
        one[0] = rng.choice((other[0], b"rope_freqs.weight", b"x\n\x1b[2J"))
    elif what < 0.5 and one[1]:
        one[1][rng.randrange(len(one[1]))] = changed_number(rng.choice(one[1]), rng)
    elif what < 0.6:
        one[1] = rng.choice((one[1][::-1], [1, *one[1]], one[1][1:], list(other[1])))
    elif what < 0.8:
        one[2] = rng.choice((rng.randrange(44), 142, 143, rng.choice(NUMBERS)))
    else:
        one[3] = rng.choice((changed_number(one[3], rng), other[3]))


def _run(data: bytes, folder: Path) -> None:
    path = folder / "model.gguf"
    path.write_bytes(data)
    gguf = Gguf(path)
    source = GgufSource(path)
    if rows := _theirs(path):
        _compare(gguf, rows)
    convert(source, folder / "out")
    back = DirectorySource(folder / "out")
    for name, tensor in source.tensors.items():
        if tensor.read().tobytes() != back.read(name).tobytes():
            raise Broken(f"{name} is not what was converted")


def _theirs(path: Path) -> dict[str, Any]:
    """Return the tensors that the gguf package reads, none if it fails."""
    try:
        return {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    except (ValueError, KeyError, IndexError, OverflowError):
        return {}


def _compare(gguf: Gguf, theirs: dict[str, Any]) -> None:
    for name, raw in gguf.tensors.items():
        other = theirs.get(name)
        if other is None or tuple(int(n) for n in other.shape[::-1]) != raw.shape:
            raise Broken(f"gguf has another {name}")
        if (other.tensor_type.name, other.data_offset, other.n_bytes) != (
                raw.kind.name, raw.offset, raw.size):
            raise Broken(f"gguf finds {name} elsewhere")


TARGET = Target("GGUF files: read, map, convert, compare with the gguf package", gguf_seeds, _run,
                _changed)
