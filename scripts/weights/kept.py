"""What a packed checkpoint keeps as it was: how much, and why."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from tritstream.golden.packed.report import PackReport
from tritstream.scripts.console import console

__all__ = ["KeptPart", "kept_parts", "name_patterns", "show_kept", "warn_of_share"]

#: Share of the weights that should be packed; below it a warning says what was not.
_ENOUGH = 0.9
#: Patterns of names on a line of a summary.
_PATTERNS = 4
#: What is packed when somebody asks for it.
_OPTIONAL = ("embeddings", "output head")


@dataclass(frozen=True)
class KeptPart:
    """Tensors that are kept for one reason: their names, and their share of all weights, 0..1."""

    reason:  str
    share:   float
    tensors: tuple[str, ...]


def kept_parts(report: PackReport) -> list[KeptPart]:
    """What was kept, the largest part first."""
    names, weights = defaultdict(list), defaultdict(int)
    for tensor in report.kept:
        reason = report.reasons[tensor.name]
        names[reason].append(tensor.name)
        weights[reason] += prod(tensor.shape)
    whole = report.weights + sum(weights.values())
    parts = [KeptPart(reason, weights[reason] / whole, tuple(names[reason])) for reason in names]
    return sorted(parts, key=lambda part: -part.share)


def show_kept(report: PackReport) -> None:
    """Print which share was packed, and a line for each part that was not."""
    how = "kept" if report.roundings else "kept as they were"
    print(f"packed {report.packed_share:.1%} of all weights; {how}:")
    for part in kept_parts(report):
        print(f"  {part.share:6.1%}  {part.reason}: {_shown(part.tensors)}")


def warn_of_share(report: PackReport) -> None:
    """Say on standard error that much was not packed, and what can be done."""
    if report.packed_share >= _ENOUGH:
        return
    parts = [part for part in kept_parts(report) if part.share >= 0.01]
    cures = [f"--include {part.tensors[0].removesuffix('.weight').rpartition('.')[2]}"
             for part in parts if part.reason in _OPTIONAL]
    told = ", ".join(f"{part.reason} ({part.share:.1%})" for part in parts)
    cure = f"; {' '.join(cures)} packs what can be packed of them" if cures else ""
    console.print(f"warning: only {report.packed_share:.1%} of the weights are packed; kept are "
                  f"{told}{cure}", markup=False, soft_wrap=True)


def name_patterns(names: Iterable[str]) -> list[str]:
    """Names in short: numbers of layers become asterisks."""
    return sorted({re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names})


def _shown(names: Iterable[str]) -> str:
    patterns = name_patterns(names)
    more = len(patterns) - _PATTERNS
    return ", ".join(patterns[:_PATTERNS]) + (f" and {more} more" if more > 0 else "")
