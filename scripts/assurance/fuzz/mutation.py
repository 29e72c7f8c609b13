"""Random changes of bytes, numbers and JSON."""

import json
from random import Random
from typing import Any, Literal

__all__ = ["NUMBERS", "TEXTS", "changed_bytes", "changed_json", "changed_number"]

#: Numbers that readers often handle wrongly.
NUMBERS = (0, 1, 2, 3, 5, 7, 16, 17, 27, 63, 64, 127, 128, 255, 256, 1 << 15, 1 << 16,
           (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63,
           (1 << 64) - 1)
TEXTS = ("", ".", "..", "../outside.safetensors", "/etc/passwd", "a/b", "a\0b", "\ud800", "x\ny",
         "\x1b[2Jx", "\u202e", "F32", "U8", "BF16", "F64", "I64", "weight", "9" * 400, "x" * 5000)
_OTHERS: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], [{}], -1, -(1 << 63), 1 << 64, 10 ** 30, 10 ** 400, 1.5, -0.0,
    1e308, float("nan"), float("inf"), float("-inf"))
#: Placeholders for JSON that json.dumps does not write.
_DEEP, _TWICE = "\u0001deep", "\u0001twice"


def changed_number(value: int, rng: Random) -> int:
    """Return a number close to ``value``, or one that readers often handle wrongly."""
    return rng.choice((value + 1, value - 1, 2 * value, -value, value ^ 1 << rng.randrange(64),
                       value + rng.choice(NUMBERS), *rng.choices(NUMBERS, k=4)))


def changed_bytes(data: bytes, rng: Random) -> bytes:
    """Return ``data`` with one to four changes of bits, bytes, numbers or segments."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_CHANGES)(found, rng)
    return bytes(found)


def changed_json(value: Any, rng: Random, times: int = 1) -> bytes:
    """Return ``value`` as JSON after one or more changes. ``value`` is modified."""
    for _ in range(times):
        holders = list(_holders(value))
        if not holders:
            value = _other(value, rng)
            continue
        _change_in(rng.choice(holders), rng)
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=rng.random() < 0.8)
    deep = rng.choice((50, 200, 900, 5000))
    text = text.replace(json.dumps(_DEEP), "[" * deep + "]" * deep)
    if rng.random() < 0.03:
        text = _repeat_key(text, rng)
    return text.replace(json.dumps(_TWICE), "0").encode("utf-8", "surrogatepass")


def _repeat_key(text: str, rng: Random) -> str:
    """Insert a second member with the name of an existing one, and another value."""
    place = text.find('":', rng.randrange(len(text)))
    start = text.rfind('"', 0, place)
    if place < 0 or start < 0:
        return text
    return f"{text[:start]}{text[start:place]}\":{rng.choice(NUMBERS)},{text[start:]}"


def _holders(value: Any):
    """Yield all objects and lists that are not empty, outermost first."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list) and one:
            yield one
            waiting += one.values() if isinstance(one, dict) else one


def _change_in(holder: dict | list, rng: Random) -> None:
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    key, other = rng.choice(keys), rng.choice(keys)
    what = rng.random()
    if what < 0.6:
        holder[key] = _other(holder[key], rng)
    elif what < 0.7:
        holder[key] = holder[other]
    elif what < 0.8:
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(key, _other(holder[key], rng))
    else:
        name = rng.choice((*TEXTS, *(f"{one}{rng.choice('.x_')}" for one in keys)))
        holder[name] = holder.pop(key) if what < 0.9 else holder[key]


def _other(value: Any, rng: Random) -> Any:
    if type(value) is int and rng.random() < 0.7:
        return changed_number(value, rng)
    if isinstance(value, str) and rng.random() < 0.4:
        return changed_bytes(value.encode("utf-8", "replace"), rng).decode("utf-8", "replace")
    return rng.choice((*_OTHERS, *NUMBERS, *TEXTS, _DEEP))


def _flip(data: bytearray, rng: Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: Random) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 255, 127, 128, rng.randrange(256)))


def _put_number(data: bytearray, rng: Random) -> None:
    size = rng.choice((2, 4, 8))
    orders: tuple[Literal["little", "big"], ...] = ("little", "little", "big")
    order = rng.choice(orders)
    at = rng.randrange(max(1, len(data) - size + 1))
    value = int.from_bytes(data[at:at + size], order)
    number = changed_number(value, rng) % (1 << 8 * size)
    data[at:at + size] = number.to_bytes(size, order)


def _cut(data: bytearray, rng: Random) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at:at + rng.choice((1, 4, 8, 64, len(data)))]


def _insert(data: bytearray, rng: Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((rng.randbytes(rng.choice((1, 4, 8, 64))), bytes(64), b"\xff" * 8))


def _copy(data: bytearray, rng: Random) -> None:
    first, at = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    data[at:at] = data[first:first + rng.choice((1, 8, 64, 512))]


def _move(data: bytearray, rng: Random) -> None:
    first, size = rng.randrange(len(data) + 1), rng.choice((1, 8, 64))
    piece = data[first:first + size]
    del data[first:first + size]
    at = rng.randrange(len(data) + 1)
    data[at:at] = piece


_CHANGES = (_flip, _flip, _set, _put_number, _put_number, _cut, _insert, _copy, _move)
