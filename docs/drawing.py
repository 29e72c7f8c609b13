"""Draw boxes and arrows from plain data, whose digest a test can compare."""

import re
from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

__all__ = ["draw"]

#: Inches per drawing unit.
_UNIT = 0.43
#: Fill and edge colour of a box, by kind.
_KINDS = {
    "data":    ("#FFFFFF", "#222222"), "golden": ("#FBE9D0", "#B35900"),
    "device":  ("#D8E8F5", "#0072B2"), "host":   ("#DDF0E6", "#007A5A"),
    "memory":  ("#EFE0EE", "#8A3A86"), "rest":   ("#F2F2F2", "#767676"),
    "none":    ("none", "none"),
}
_END   = re.compile(r"(\w+)\.([a-z]+)([+-][\d.]+)?")
_SIDES = {"left": (0, 0.5), "right": (1, 0.5), "top": (0.5, 0), "bottom": (0.5, 1)}


def draw(spec: dict) -> Figure:
    """Return a figure of ``size`` units; the origin is the top left corner.

    Parameters
    ----------
    spec : dict
        ``size``: width and height; ``areas``: (x, y, width, height, title, kind), drawn first;
        ``boxes`` by name: (x, y, width, height, text, kind); ``arrows``: (ends, label), where each
        end is a point or ``name.side`` (``name.side+0.5``: 0.5 units past the middle of that side);
        ``texts``: (x, y, text, size, align).
    """
    width, height = spec["size"]
    figure = Figure(figsize=(width * _UNIT, height * _UNIT))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for area in spec.get("areas", []):
        _area(axes, *area)
    for ends, label in spec.get("arrows", []):
        _arrow(axes, [_point(spec["boxes"], end) for end in ends], label)
    for box in spec["boxes"].values():
        _box(axes, *box)
    for x, y, text, size, align in spec.get("texts", []):
        axes.text(x, y, text, size=size, ha=align, va="center")
    return figure


def _area(axes, x, y, width, height, title, kind):
    edge = _KINDS[kind][1]
    axes.add_patch(Rectangle((x, y), width, height, facecolor="none", edgecolor=edge,
                             linestyle=(0, (4, 3)), linewidth=0.9))
    axes.text(x + 0.2, y + 0.4, title, size=8.5, weight="bold", color=edge, va="center")


def _box(axes, x, y, width, height, text, kind, size=8):
    face, edge = _KINDS[kind]
    axes.add_patch(FancyBboxPatch(
        (x, y), width, height, boxstyle=f"round,pad=0,rounding_size={min(0.12, height / 4)}",
        facecolor=face, edgecolor=edge, linewidth=1.0))
    axes.text(x + width / 2, y + height / 2, text, size=size, ha="center", va="center",
              linespacing=1.25)


def _point(boxes, end):
    if not isinstance(end, str):
        return end
    name, side, along = _END.fullmatch(end).groups()
    x, y, width, height = boxes[name][:4]
    right, down = _SIDES[side]
    move = float(along or 0)
    level = side in ("left", "right")
    return x + right * width + (0 if level else move), y + down * height + (move if level else 0)


def _arrow(axes, points, label):
    for start, end in pairwise(points[:-1]):
        axes.plot(*zip(start, end, strict=True), color="#222222", linewidth=1.1,
                  solid_capstyle="round")
    axes.annotate("", points[-1], points[-2], arrowprops={
        "arrowstyle": "-|>", "color": "#222222", "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0})
    if label:
        _label(axes, points, label)


def _label(axes, points, label):
    """Write the label next to the middle of the longest segment."""
    start, end = max(pairwise(points),
                     key=lambda pair: abs(pair[0][0] - pair[1][0]) + abs(pair[0][1] - pair[1][1]))
    level = abs(start[0] - end[0]) > abs(start[1] - end[1])
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if level:
        axes.text(x, y - 0.08, label, size=7, ha="center", va="bottom", linespacing=1.15)
    else:
        axes.text(x + 0.12, y, label, size=7, ha="left", va="center", linespacing=1.15)
