"""The worked examples of the documents: read out of the pages, and computed again."""

import re
import struct
import zlib
from pathlib import Path

import pytest

from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import ErrorCode, Opcode
from tritstream.scripts.assurance.vectors.guide import GUIDE
from tritstream.scripts.assurance.vectors.pages import PAGES, fill_in
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

from conformance import codec
from conformance.device import Device
from conformance.files import Matrix
from conformance.floats import F32, F64, from_bits
from support.vector_cases import all_vectors

DOCS = Path(__file__).parents[2] / "docs"
LANES, DEPTH, SHAPE = 2, 2, (7, 20)


def lines(page, name):
    """Lines of an example."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found, = re.findall(rf"<!-- example {name} -->\n\n(.*?)\n\n<!-- end", text, re.DOTALL)
    return [line[4:] for line in found.splitlines()]


def grid(name):
    """Integers of an example, by row."""
    return [[int(word) for word in line.split()] for line in lines("packed-format.md", name)]


def labelled(name):
    """Words of an example by their label, which may have continuation lines."""
    found, current = {}, ""
    for line in lines("packed-format.md", name):
        label, words = line[:10].strip(), line[10:].split()
        current = label or current
        found[current] = found.get(current, []) + words
    return found


def tiles():
    """Tiles of the example, (row tile, group), as bytes."""
    text = "\n".join(lines("packed-format.md", "tiles"))
    return b"".join(bytes.fromhex("".join(part.split())) for part in re.split(r"\(.*\)", text)[1:])


def matrix():
    return Matrix(DEPTH, SHAPE, tiles(), labelled("table")["table"], "s*q/h", "F16")


def frames():
    """Frames of the exchange: name and bytes, in the order of the wire."""
    found = []
    for line in filter(str.strip, lines("protocol.md", "exchange")):
        name, rest = line[:14], line[14:]
        if name.strip() and not name.startswith(" "):
            found.append((name.strip(), bytearray()))
        for word in rest.split():
            zeros = re.fullmatch(r"00\*(\d+)", word)
            found[-1][1].extend(bytes(int(zeros[1])) if zeros else bytes.fromhex(word))
    return [(name, bytes(data)) for name, data in found]


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_as_they_are_made(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert sorted(re.findall("<!-- example ([a-z-]+) -->", text)) == sorted(PAGES[page])
    assert fill_in(text) == text


def test_second_codes():
    pairs = [[int(byte, 16) for byte in pair.split("=")]
             for line in lines("packed-format.md", "second-codes") for pair in line.split()]
    assert pairs == [[codec.DIGITS.index(codec.DIGITS[byte]), byte]
                     for byte in range(256) if not codec.canonical(byte)]


def test_bytes_of_the_text():
    text = (DOCS / "packed-format.md").read_text(encoding="utf-8")
    pairs = re.findall(r"\((\d(?:,\d){4})\) (0x[0-9a-f]{2})", text)
    assert len(pairs) == 5
    for digits, byte in pairs:
        assert codec.DIGITS[int(byte, 16)] == tuple(map(int, digits.split(",")))


def test_integers_are_the_nearest_to_the_weights():
    scales = [from_bits(bits, F32) for bits in labelled("table")["table"]]
    for weights, codes, integers in zip(grid("weights"), grid("codes"), grid("integers"),
                                        strict=True):
        ratios = [weight / 16 / scales[codes[column // 16]] * 4
                  for column, weight in enumerate(weights)]
        assert [round(ratio) for ratio in ratios] == integers
    assert [grid("weights")[0][column] for column in (0, 1)] == [2, 6]
    assert [grid("integers")[0][column] for column in (0, 1)] == [0, 2]


def test_tiles_and_words():
    assert codec.unpack(matrix()) == (grid("integers"), grid("codes"))
    assert all(codec.canonical(byte) for byte in tiles())
    words = "".join("".join(part) for part in labelled("words").values())
    assert bytes.fromhex(words) == codec.word_stream(matrix(), LANES)


def test_mantissas_and_results():
    shown = labelled("table") | labelled("results")
    scales = codec.mantissas(shown["table"])
    assert scales == [int(each) for each in shown["mantissas"]]
    x, (x_scale,) = [int(each) for each in shown["x"]], shown["x_scale"]
    assert from_bits(x_scale, F64) == 1 / 127
    sums = codec.row_sums(grid("integers"), grid("codes"), scales, x)
    assert sums == [int(each) for each in shown["sums"]]
    assert codec.results(sums, shown["table"], DEPTH, x_scale) == shown["results"]


def test_header():
    size, *text = lines("packed-format.md", "header")
    size, = struct.unpack("<Q", bytes.fromhex(size))
    header = "".join(text).ljust(size).encode()
    assert len(header) == size and (8 + size) % 8 == 0
    digits = re.search(rb'"tritstream_header_crc32":"([0-9a-f]{8})"', header)[1]
    assert f"{zlib.crc32(header.replace(digits, b'0' * 8)):08x}".encode() == digits
    table = b"".join(struct.pack("<I", int(bits, 16)) for bits in labelled("table")["table"])
    for name, data in (("trits", tiles()), ("scales", table)):
        assert re.search(rf'm\.{name}\\": ?{{[^}}]*\\"crc32\\":\\"{zlib.crc32(data):08x}',
                         header.decode())


def test_exchange():
    shown = frames()
    assert [name for name, _ in shown] == [
        "SCALES", "ACK", "ACTIVATIONS", "ACK", "GEMV", "RESULT", "DONE"]
    requests = b"".join(data for name, data in shown if Opcode[name] < Opcode.INFO)
    answers = b"".join(data for name, data in shown if Opcode[name] >= Opcode.INFO)
    assert without_counts(answers) == without_counts(Device(LANES).feed(requests))
    sums = [int(each) for each in labelled("results")["sums"]]
    assert shown[5][1][20:76] == struct.pack("<7q", *sums)
    config = DeviceConfig(lanes=LANES)
    with NativeDevice(build_native(LANES, device_rtl(config)).library) as device:
        device.push(requests)
        assert device.pull(len(answers)) == answers


def without_counts(answers):
    """Answers as bytes, up to the counts of DONE, and what they count as words."""
    return answers[:-36], answers[-12:-4]


def test_identify_of_the_text():
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    head, zeros, tail = re.search(
        r"IDENTIFY with sequence 7 is `(\w+)`, (\d+) zero bytes, `(\w+)`", text).groups()
    request = bytes.fromhex(head).ljust(20 + int(zeros), b"\0")
    assert struct.unpack("<I", bytes.fromhex(tail))[0] == zlib.crc32(request)
    assert Device(8).feed(request + bytes.fromhex(tail).ljust(64, b"\0"))[2:4] == b"\x80\x07"


def test_opcodes_of_the_tables():
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| 0x([0-9A-F]{2}) \| ([A-Z]+) \|", text, re.MULTILINE)
    assert {name: int(code, 16) for code, name in rows} == {
        opcode.name: opcode.value for opcode in Opcode}
    errors = text.partition("## Errors")[2]
    assert re.findall(r"^\| (\d) \|", errors, re.MULTILINE) == [
        str(code.value) for code in ErrorCode]


def test_conformance_page_names_every_case_and_kind():
    text = (DOCS / "conformance.md").read_text(encoding="utf-8")
    files = all_vectors()
    size = sum(map(len, files.values())) / 1e6
    assert f"{len(files)} files, {size:.1f} MB" in text
    names = {re.sub(r"\d+$", "", path.rpartition("/")[2].removesuffix(".json"))
             for path in files if path.startswith("products/")}
    names |= {re.sub(r"-d\d$", "", path.rpartition("/")[2].removesuffix(".json"))
              for path in files if path.startswith("frames/") and path.endswith(".json")}
    assert [name for name in sorted(names) if f"| `{name}" not in text] == []
    assert len(GUIDE) == 16
