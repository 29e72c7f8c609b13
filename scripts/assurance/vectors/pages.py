"""Worked examples of the documents. Run with ``python -m`` to write them into the pages."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.source import SINGLE
from tritstream.golden.fixed_point import GROUP, SCALES, mantissas
from tritstream.golden.gemv import dequantize_rows, gemv
from tritstream.golden.kernels.numpy_arithmetic import levels
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.tiles import pack, word_stream
from tritstream.golden.trit import decode, encode, is_canonical
from tritstream.hw.protocol import HEADER_BYTES, TRAILER_BYTES, Opcode
from tritstream.scripts.assurance.vectors.checkpoints import plain_checkpoint
from tritstream.scripts.assurance.vectors.matrices import Case, Vector
from tritstream.scripts.assurance.vectors.numbers import bits_of, integers
from tritstream.scripts.assurance.vectors.session import Product, Session
from tritstream.scripts.console import write_text

__all__ = ["EXAMPLE", "PAGES", "blocks", "fill_in"]

PAGES = {
    "packed-format.md": ("second-codes", "weights", "table", "codes", "integers", "tiles", "words",
                         "header", "results"),
    "protocol.md": ("exchange",),
}
_LANES, _DEPTH, _SHAPE = 2, 2, (7, 20)
_PLACE = re.compile(r"<!-- example ([a-z-]+) -->\n.*?<!-- end of example -->", re.DOTALL)
#: Cycles of the example's GEMV on the simulated device.
_CYCLES = 175


def _weights() -> np.ndarray:
    """Return weights in units of 1/16. The scale of a group limits their size."""
    scales = (16 * _table()[_codes()]).astype(int)
    spread = np.repeat(scales, GROUP, axis=1)[:, :_SHAPE[1]]
    weights = integers("pages/weights", 1 << 20, *_SHAPE) % (2 * spread + 1) - spread
    weights[:2, :2] = [[2, 6], [-2, -6]]
    return weights


def _codes() -> np.ndarray:
    """Return codes 0, 1 and 25. The code of the first group is 0 in the first two rows."""
    return np.array([[0, 1], [0, 25], [1, 0], [25, 1], [1, 25], [25, 0], [0, 1]])


def _table() -> np.ndarray:
    """Return the scales: 1 for code 0, 1/2 for code 1, 1/4 for code 25, and smaller ones."""
    table = np.ldexp(1.0, -3 - np.arange(SCALES) % 4)
    table[[0, 1, 25]] = 1, 0.5, 0.25
    return table.astype(np.float32)


def _example() -> Case:
    codes, table = _codes(), _table()
    scales = np.repeat(table[codes], GROUP, axis=1)[:, :_SHAPE[1]]
    q = np.zeros((_SHAPE[0], GROUP * codes.shape[1]), np.int8)
    q[:, :_SHAPE[1]] = levels((_weights() / 16).astype(np.float32), scales, 4)
    matrix = TritMatrix(_DEPTH, _SHAPE, q, codes.astype(np.uint8), table)
    x = (integers("pages/x", 255, _SHAPE[1]) - 127).astype(np.int8)
    x[0] = 127
    return Case("m", "the example", _DEPTH, _SHAPE, pack(matrix), table,
                (Vector("levels", x, 1 / 127),))


#: The matrix of the examples.
EXAMPLE = _example()


def blocks() -> dict[str, str]:
    """Return the text of each example by name, for a Markdown code block."""
    case = EXAMPLE
    shard = plain_checkpoint([case], kept=False)[SINGLE]
    header = shard[8:8 + int.from_bytes(shard[:8], "little")]
    words = word_stream(case.tiles, _LANES)[0]
    return {
        "second-codes": _second_codes(),
        "weights": _grid(_weights(), 4),
        "table": _wrapped("table", bits_of(case.table)) + _wrapped(
            "mantissas", [str(each) for each in mantissas(case.table)]),
        "codes": _grid(_codes(), 3),
        "integers": _grid(case.matrix.q[:, :_SHAPE[1]], 3),
        "tiles": "".join(_hexed(f"({tile}, {group})", case.tiles[tile, group].tobytes())
                         for tile in range(2) for group in range(2)),
        "words": "".join(_wrapped(f"group {group}", [bytes(word).hex() for word in words[group]])
                         for group in range(2)),
        "header": f"{shard[:8].hex()}\n{_cut(header.decode().rstrip())}",
        "results": _results(case),
        "exchange": "".join(_exchange(case)),
    }


def fill_in(text: str) -> str:
    """Return a page with its examples filled in."""
    made = blocks()

    def place(found: re.Match) -> str:
        body = "".join(f"    {line}\n" for line in made[found[1]].splitlines())
        return f"<!-- example {found[1]} -->\n\n{body}\n<!-- end of example -->"
    return _PLACE.sub(place, text)


def _second_codes() -> str:
    every = np.arange(256, dtype=np.uint8)
    second = every[~is_canonical(every)]
    return _wrapped("", [f"{int(encode(digits)):02x}={int(byte):02x}"
                         for byte, digits in zip(second, decode(second), strict=True)])


def _results(case: Case) -> str:
    vector, = case.vectors
    sums = gemv(case.matrix, vector.x)
    results = dequantize_rows(sums, case.table, case.depth, vector.scale)
    return (_wrapped("x", [str(each) for each in vector.x])
            + _wrapped("x_scale", bits_of(np.float64(vector.scale)))
            + _wrapped("sums", [str(each) for each in sums])
            + _wrapped("results", bits_of(results)))


def _exchange(case: Case) -> Iterator[str]:
    product = Product(case, _LANES)
    session = Session(_LANES, "the example", cycles=_CYCLES)
    x = product.activations(0)
    session.ask("SCALES", Opcode.SCALES, payload=product.scales)
    session.ask("ACTIVATIONS", Opcode.ACTIVATIONS, 0, len(x), x)
    session.ask("GEMV", Opcode.GEMV, product.arguments(), product.blocks, product.words)
    for number, exchange in enumerate(session.exchanges[1:]):
        start, size = exchange["request"]
        yield from _frame(exchange["about"], bytes(session.requests[start:start + size]), 64)
        for answer in exchange["answers"]:
            start, size = answer["bytes"]
            yield from _frame(answer["opcode"], bytes(session.answers[start:start + size]), _LANES)
        yield "\n" * (number < 2)


def _frame(name: str, data: bytes, align: int) -> Iterator[str]:
    """Yield header, payload and trailer of a frame, each with its padding."""
    head, tail = (size + -size % align for size in (HEADER_BYTES, TRAILER_BYTES))
    yield _hexed(name, data[:HEADER_BYTES], head - HEADER_BYTES)
    length = int.from_bytes(data[12:16], "little")
    if length:
        yield _hexed("  payload", data[head:head + length], len(data) - head - length - tail)
    trailer = len(data) - tail
    yield _hexed("  trailer", data[trailer:trailer + TRAILER_BYTES], tail - TRAILER_BYTES)


def _hexed(label: str, data: bytes, padding: int = 0) -> str:
    """Return bytes in hexadecimal, 32 per line, and the number of zeros that follow."""
    parts = [bytes(data[at:at + 32]).hex() for at in range(0, len(data), 32)]
    parts[-1] += f" 00*{padding}" if padding else ""
    return "".join(f"{label if not place else '':<14}{part}\n" for place, part in enumerate(parts))


def _wrapped(label: str, words: list[str]) -> str:
    """Return words in lines of at most 94 characters after a label."""
    lines, start = [""], 10 if label else 0
    for word in words:
        if len(lines[-1]) + len(word) + 1 > 84:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "".join(f"{label if not place else '':<{start}}{line}\n"
                   for place, line in enumerate(lines))


def _grid(values: np.ndarray, width: int) -> str:
    return "".join("".join(f"{value:{width}d}" for value in row) + "\n" for row in values)


def _cut(text: str) -> str:
    return "".join(f"{text[at:at + 90]}\n" for at in range(0, len(text), 90))


def main(folder: Path) -> None:
    """Write the examples into the pages."""
    for page in PAGES:
        path = folder / page
        write_text(path, fill_in(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(Path(__file__).parents[3] / "docs")
