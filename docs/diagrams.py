"""Draw the diagrams of these pages into docs/figures: `python docs/diagrams.py`.

Each is plain data; the SVG carries its digest, by which a test tells one that is out of date.
"""

from pathlib import Path

from drawing import draw

from tritstream.scripts.reports.plot.style import save, styled

__all__ = ["DIAGRAMS", "FIGURES", "main"]

FIGURES = Path(__file__).parent / "figures"

_DATA_FLOW = {
    "title": "From a checkpoint to a result",
    "size": (21, 14.9),
    "areas": [
        (0.2, 0.2, 20.6, 3.4, "once a model: tritstream quantize (golden/)", "golden"),
        (0.2, 4.4, 20.6, 2.7, "once a matrix: the driver (host/)", "host"),
        (0.2, 8.4, 20.6, 6.3, "every vector", "device"),
    ],
    "boxes": {
        "source": (0.6, 1.1, 3.7, 2.0, "Hugging Face or\nGGUF checkpoint\nW: N x K floats", "data"),
        "scales": (5.0, 1.1, 3.3, 2.0, "a scale for each\n16 weights, one\nof 27: the table",
                   "golden"),
        "trits": (9.0, 1.1, 3.1, 2.0, "integers -h..h\nas d balanced\ntrits", "golden"),
        "tiles": (12.8, 1.1, 3.3, 2.0, "tiles: 5 rows of\n16 weights in\n16 d + 3 bytes", "golden"),
        "packed": (16.8, 1.1, 3.6, 2.0, "packed checkpoint\n.trits, .scales\nand their CRC-32",
                   "data"),
        "words": (10.6, 5.2, 4.4, 1.5, "words of L bytes:\nblocks of 5 L rows", "host"),
        "mantissas": (17.0, 5.2, 3.4, 1.5, "27 mantissas\nof 17 bits", "host"),
        "x": (0.6, 9.3, 2.6, 1.5, "x: K floats", "data"),
        "int8": (4.2, 9.3, 3.4, 1.5, "K int8, scale\nmax|x| / 127", "host"),
        "lanes": (10.6, 9.3, 4.4, 1.5, "L lanes: acc +- x 3^i\ngroup sums of 18 bits", "device"),
        "units": (16.4, 9.3, 4.0, 1.5, "x mantissa, added:\nrow sums of 46 bits", "device"),
        "result": (10.6, 11.5, 4.4, 1.1, "float32(A c) + bias", "host"),
        "sums": (16.4, 11.5, 4.0, 1.1, "N integers A", "data"),
        "golden": (16.4, 13.3, 4.0, 1.1, "tritstream.golden.gemv", "golden"),
    },
    "arrows": [
        (("source.right", "scales.left"), ""), (("scales.right", "trits.left"), ""),
        (("trits.right", "tiles.left"), ""), (("tiles.right", "packed.left"), ""),
        (("packed.bottom-1.1", (17.5, 4.05), (12.8, 4.05), "words.top"), "tiles"),
        (("packed.bottom+0.1", "mantissas.top"), "table"),
        (("x.right", "int8.left"), ""), (("int8.right", "lanes.left"), "ACTIVATIONS\nframe"),
        (("words.bottom", "lanes.top"), "GEMV frame"),
        (("mantissas.bottom", (18.7, 9.3)), "SCALES frame"),
        (("lanes.right", "units.left"), ""), (("units.bottom", "sums.top"), "RESULT frames"),
        (("sums.left", "result.right"), ""), (("golden.top", "sums.bottom"), "must be equal"),
        (("int8.bottom", (5.9, 13.85), "golden.left"), "the same integers, in numpy"),
    ],
}

_DEVICE = {
    "title": "Blocks of the device",
    "size": (21.8, 11.9),
    "areas": [
        (1.4, 0.2, 20.2, 10.7, "device, hw/device.py: one clock, L lanes, B columns", "rest"),
        (11.3, 4.0, 10.1, 4.3, "datapath: nothing inside waits", "device"),
    ],
    "boxes": {
        "input": (1.9, 5.5, 1.9, 1.5, "input\nbuffer", "rest"),
        "deframer": (4.6, 5.2, 2.5, 2.1, "deframer\nCRC of header\nand trailer", "rest"),
        "control": (3.9, 8.8, 4.4, 1.5, "controller: checks,\ncounts, answers", "rest"),
        "loader": (4.6, 1.8, 2.5, 1.2, "loader", "rest"),
        "activation": (9.2, 1.4, 4.2, 2.0, "activation memory\nB columns of int8,\nK up to max K",
                       "memory"),
        "sequencer": (8.4, 5.4, 2.5, 1.7, "sequencer\nnames beats", "rest"),
        "beats": (11.7, 5.5, 2.2, 1.5, "beat buffer\n2 words", "memory"),
        "array": (14.6, 4.9, 3.6, 2.7,
                  "lane array\nunpacker; x 3^i\nL lanes x B:\nacc +- x 3^i", "device"),
        "units": (18.9, 4.9, 2.3, 2.7, "scale units\nmultiplier\nfor 3 lanes", "device"),
        "banks": (14.9, 8.8, 3.6, 1.5, "2 result banks\n5 L sums a column", "memory"),
        "framer": (9.7, 8.8, 3.4, 1.5, "framer, sealer:\nheader, CRC-32", "rest"),
    },
    "arrows": [
        (((0.1, 6.25), "input.left"), ""), (("input.right", "deframer.left"), ""),
        (("deframer.top", "loader.bottom"), "loads"),
        (("deframer.right", "sequencer.left"), "GEMV"),
        (("deframer.bottom", (5.85, 8.8)), "headers, verdicts"),
        (("loader.right", "activation.left"), "rows"),
        (("loader.top", (5.85, 1.15), (20.05, 1.15), "units.top"), "27 mantissas"),
        (("activation.right", (17.5, 2.4), "array.top+1.1"), "x of a beat"),
        (("sequencer.right", "beats.left"), ""), (("beats.right", "array.left"), ""),
        (("array.right", "units.left"), ""),
        (("units.bottom", (20.05, 9.55), "banks.right"), "row sums"),
        (("banks.left", "framer.right"), "in order"),
        (("control.right", "framer.left"), "requests"),
        (("framer.bottom", (11.4, 11.8)), ""),
    ],
    "texts": [(0.1, 5.9, "words in", 7, "left"), (11.6, 11.4, "words out", 7, "left")],
}

#: Of the picture of a group's timing: depth, units of a cycle, where cycle 0 is.
_DEPTH, _CYCLE, _LEFT = 1, 0.4, 3.9
_WEIGHTS = 16 * _DEPTH
_GROUP   = _WEIGHTS + 3


def _span(name, first, count, line, text, kind, size=7):
    """A box of some cycles on a line of the timing picture."""
    return {name: (_LEFT + first * _CYCLE, 0.9 + line * 0.95, count * _CYCLE, 0.7, text, kind,
                   size)}


def _group(group):
    """Boxes of one group: its beats, five rows 3 cycles apart, 15 turns of a multiplier."""
    begin = group * _GROUP
    boxes = _span(f"weights{group}", begin, _WEIGHTS, 0, f"16 weight beats of group {group}",
                  "data")
    for scale in range(3):
        boxes |= _span(f"scale{group}{scale}", begin + _WEIGHTS + scale, 1, 0, f"s{scale}",
                       "golden", 6.5)
    for row in range(5):
        late = begin + 1 + 3 * row
        boxes |= _span(f"sum{group}{row}", late, _WEIGHTS, 1 + row, f"row {row} of all lanes adds",
                       "device")
        for lane in range(3):
            boxes |= _span(f"rest{group}{row}{lane}", late + _WEIGHTS + lane, 1, 1 + row,
                           f"l{lane}", "host", 6.5)
            boxes |= _span(f"turn{group}{row}{lane}", late + _WEIGHTS + lane, 1, 6,
                           f"{row}{lane}", "host", 5.5)
    return boxes


_TIMING = {
    "title": f"Timing of a group at d = {_DEPTH}",
    "size": (24.9, 9.1),
    "areas": [],
    "boxes": _group(0) | _group(1),
    "arrows": [],
    "texts": [
        (0.3, 0.4, f"two groups at d = {_DEPTH}, the shortest there are: a group is 16 d + 3 "
                   "cycles, here 19; time goes to the right", 8, "left"),
        (0.3, 1.25, "words taken", 8, "left"),
        *((0.3, 1.25 + 0.95 * (1 + row), f"sums of row {row}", 8, "left") for row in range(5)),
        (0.3, 1.25 + 0.95 * 6, "turns of a multiplier", 8, "left"),
        (0.3, 7.95, "s0 s1 s2: scale beats, the three digits of the group's code.   l0 l1 l2: the "
                    "sum rests while lane 0, 1, 2 of the unit hands its own over.", 7.5, "left"),
        (0.3, 8.55, "Turn 42 is row 4, lane 2.   A multiplier's 15 turns take 15 of at least 19 "
                    "cycles, so it always keeps up.", 7.5, "left"),
    ],
}

_LAYERS = [
    ("scripts", "the command tritstream: console, tables, reports, plots", "data"),
    ("host", "driver, transports, several devices, models of transformers on a device", "host"),
    ("sim", "RTL compiled by Verilator, whole boards, harness of the benches", "memory"),
    ("hw", "RTL in Amaranth; protocol; IP core; synthesis; boards; hw/soc in LiteX", "device"),
    ("golden", "numbers, codec, quantizers, tiles, checkpoints, integer GEMV; no hardware",
     "golden"),
]
_PACKAGES = {
    "title": "Packages and what they import",
    "size": (17.5, 8.6),
    "areas": [],
    "boxes": {name: (0.6, 0.5 + 1.6 * line, 12.4, 1.1, f"{name}/\n{text}", kind)
              for line, (name, text, kind) in enumerate(_LAYERS)}
             | {"tests": (14.2, 0.5, 2.8, 7.5, "tests/\nsees all", "rest")},
    "arrows": [((f"{upper[0]}.bottom", f"{lower[0]}.top"), "imports")
               for upper, lower in zip(_LAYERS, _LAYERS[1:], strict=False)]
              + [(((14.2, 1.05 + 1.6 * line), f"{name}.right"), "")
                 for line, (name, _, _) in enumerate(_LAYERS)],
}

_TRANSPORTS = {
    "title": "One driver, four ways to a device",
    "size": (21, 8.4),
    "boxes": {
        "golden": (0.5, 0.5, 3.6, 1.5, "golden backend\nnumpy, the same sums", "golden"),
        "model": (0.5, 3.4, 3.6, 1.5, "run, generate, eval:\nmatrices, activations", "host"),
        "driver": (5.3, 3.4, 3.4, 1.5, "Device\nframes, CRC, retries", "host"),
        "native": (10.2, 0.5, 4.0, 1.3, "native transport\nsim:lanes=8", "host"),
        "socket": (10.2, 2.5, 4.0, 1.3, "socket transport\ntcp://HOST:PORT", "host"),
        "serial": (10.2, 4.5, 4.0, 1.3, "serial transport\nhw selftest --port", "host"),
        "board": (10.2, 6.5, 4.0, 1.3, "board transport\nudp://HOST", "host"),
        "rtl": (16.3, 0.5, 4.2, 1.3, "RTL compiled\nby Verilator", "device"),
        "server": (16.3, 2.5, 4.2, 1.3, "tritstream serve\nin another process", "memory"),
        "uart": (16.3, 4.5, 4.2, 1.3, "board behind a UART\n(never run)", "device"),
        "memory": (16.3, 6.5, 4.2, 1.3, "board with memory (never\nrun), or tritstream board",
                   "device"),
    },
    "arrows": [
        (("model.right", "driver.left"), ""), (("model.top", "golden.bottom"), "compare"),
        (("driver.right", (9.4, 4.15), (9.4, 1.15), "native.left"), ""),
        (("driver.right", (9.4, 4.15), (9.4, 3.15), "socket.left"), ""),
        (("driver.right", (9.4, 4.15), (9.4, 5.15), "serial.left"), ""),
        (("driver.right", (9.4, 4.15), (9.4, 7.15), "board.left"), ""),
        (("native.right", "rtl.left"), "words"), (("socket.right", "server.left"), "bytes"),
        (("serial.right", "uart.left"), "bytes"), (("board.right", "memory.left"), "Etherbone"),
        (("server.top", "rtl.bottom"), ""),
    ],
}

DIAGRAMS = {"data-flow": _DATA_FLOW, "device": _DEVICE, "group-timing": _TIMING,
            "packages": _PACKAGES, "transports": _TRANSPORTS}


def main(form="svg", folder=FIGURES):
    with styled():
        for name, spec in DIAGRAMS.items():
            save(draw(spec), Path(folder) / f"{name}.{form}", spec["title"], spec)


if __name__ == "__main__":
    main()
