"""Draw the diagrams of these pages into docs/figures: `python docs/diagrams.py`.

Each diagram is plain data. The SVG carries the digest of that data, so that a test can detect an
outdated file. Diagrams of plain boxes and arrows are Mermaid blocks in the pages themselves.
"""

from pathlib import Path

from drawing import draw

from tritstream.scripts.reports.plot.style import save, styled

__all__ = ["DIAGRAMS", "FIGURES", "main"]

FIGURES = Path(__file__).parent / "figures"

_DEVICE = {
    "title": "Blocks of the device",
    "size": (21.8, 11.9),
    "areas": [
        (1.4, 0.2, 20.2, 10.7, "device, hw/device.py: one clock, L lanes, B columns", "rest"),
        (11.3, 4.0, 10.1, 4.3, "datapath, hw/compute: never stalls", "device"),
    ],
    "boxes": {
        "input": (1.9, 5.5, 1.9, 1.5, "stream\nbuffer", "rest"),
        "deframer": (4.6, 5.2, 2.5, 2.1, "deframer\nCRC of header\nand trailer", "rest"),
        "control": (3.9, 8.8, 4.4, 1.5, "controller: request\ncheck, counters, answers", "rest"),
        "loader": (4.6, 1.8, 2.5, 1.2, "loader", "rest"),
        "activation": (9.2, 1.4, 4.2, 2.0, "activation memory\nB columns of int8,\nK up to max K",
                       "memory"),
        "sequencer": (8.4, 5.4, 2.5, 1.7, "sequencer\nlabels words", "rest"),
        "beats": (11.7, 5.5, 2.2, 1.5, "beat buffer\n2 words", "memory"),
        "array": (14.6, 4.9, 3.6, 2.7,
                  "lane array\ntrit unpackers\nL lanes x B:\nacc +- x 3^i", "device"),
        "units": (18.9, 4.9, 2.3, 2.7, "scale units\none multiplier\nper 3 lanes", "device"),
        "banks": (14.9, 8.8, 3.6, 1.5, "2 result banks\n5 L sums per column", "memory"),
        "framer": (9.7, 8.8, 3.4, 1.5, "framer, sealer:\nheader, CRC-32", "rest"),
    },
    "arrows": [
        (((0.1, 6.25), "input.left"), ""), (("input.right", "deframer.left"), ""),
        (("deframer.top", "loader.bottom"), "loads"),
        (("deframer.right", "sequencer.left"), "GEMV"),
        (("deframer.bottom", (5.85, 8.8)), "headers, frame status"),
        (("loader.right", "activation.left"), "rows"),
        (("loader.top", (5.85, 1.15), (20.05, 1.15), "units.top"), "27 mantissas"),
        (("activation.right", (17.5, 2.4), "array.top+1.1"), "activations"),
        (("sequencer.right", "beats.left"), ""), (("beats.right", "array.left"), ""),
        (("array.right", "units.left"), ""),
        (("units.bottom", (20.05, 9.55), "banks.right"), "row sums"),
        (("banks.left", "framer.right"), "in order"),
        (("control.right", "framer.left"), "requests"),
        (("framer.bottom", (11.4, 11.8)), ""),
    ],
    "texts": [(0.1, 5.9, "words in", 7, "left"), (11.6, 11.4, "words out", 7, "left")],
}

#: Timing diagram: depth, width of a cycle and x of cycle 0, in drawing units.
_DEPTH, _CYCLE, _LEFT = 1, 0.4, 3.9
_WEIGHTS = 16 * _DEPTH
_GROUP   = _WEIGHTS + 3


def _span(name, first, count, line, text, kind, size=7):
    """Box of `count` cycles on one line of the timing diagram."""
    return {name: (_LEFT + first * _CYCLE, 0.9 + line * 0.95, count * _CYCLE, 0.7, text, kind,
                   size)}


def _group(group):
    """Boxes of one group: words, five rows 3 cycles apart, 15 slots of a multiplier."""
    begin = group * _GROUP
    boxes = _span(f"weights{group}", begin, _WEIGHTS, 0, f"16 weight words of group {group}",
                  "data")
    for scale in range(3):
        boxes |= _span(f"scale{group}{scale}", begin + _WEIGHTS + scale, 1, 0, f"s{scale}",
                       "golden", 6.5)
    for row in range(5):
        late = begin + 1 + 3 * row
        boxes |= _span(f"sum{group}{row}", late, _WEIGHTS, 1 + row, f"row {row} of all lanes adds",
                       "device")
        for lane in range(3):
            boxes |= _span(f"held{group}{row}{lane}", late + _WEIGHTS + lane, 1, 1 + row,
                           f"l{lane}", "host", 6.5)
            boxes |= _span(f"slot{group}{row}{lane}", late + _WEIGHTS + lane, 1, 6,
                           f"{row}{lane}", "host", 5.5)
    return boxes


_TIMING = {
    "title": f"Timing of a group at d = {_DEPTH}",
    "size": (24.9, 9.1),
    "areas": [],
    "boxes": _group(0) | _group(1),
    "arrows": [],
    "texts": [
        (0.3, 0.4, f"two groups at the smallest depth, d = {_DEPTH}: a group takes 16 d + 3 "
                   "cycles, here 19; time runs to the right", 8, "left"),
        (0.3, 1.25, "words in", 8, "left"),
        *((0.3, 1.25 + 0.95 * (1 + row), f"sums of row {row}", 8, "left") for row in range(5)),
        (0.3, 1.25 + 0.95 * 6, "multiplier slots", 8, "left"),
        (0.3, 7.95, "s0 s1 s2: scale words, the three digits of the group's code.   l0 l1 l2: the "
                    "sum is held while the scale unit reads lane 0, 1, 2.", 7.5, "left"),
        (0.3, 8.55, "Slot 42 is row 4, lane 2.   The 15 slots of a multiplier take 15 of at "
                    "least 19 cycles, so it always keeps up.", 7.5, "left"),
    ],
}

DIAGRAMS = {"device": _DEVICE, "group-timing": _TIMING}


def main(form="svg", folder=FIGURES):
    with styled():
        for name, spec in DIAGRAMS.items():
            save(draw(spec), Path(folder) / f"{name}.{form}", spec["title"], spec)


if __name__ == "__main__":
    main()
