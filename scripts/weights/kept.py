"""Report on the unquantized tensors of a packed checkpoint: their share, and the reasons."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from tritstream.golden.packed.report import PackReport
from tritstream.scripts.console import console

__all__ = ["KeptPart", "kept_parts", "name_patterns", "show_kept", "warn_of_share"]

#: Share of packed weights, 0..1, below which a warning lists the unquantized tensors.
_ENOUGH = 0.9
#: Maximum number of name patterns per line of a summary.
_PATTERNS = 4
#: Reasons of tensors that --include packs.
_OPTIONAL = ("embeddings", "output head")


@dataclass(frozen=True)
class KeptPart:
    """Unquantized tensors with the same reason: share in all weights, 0..1, and tensor names."""

    reason:  str
    share:   float
    tensors: tuple[str, ...]


def kept_parts(report: PackReport) -> list[KeptPart]:
    """Return the unquantized tensors by reason, the largest part first."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    weights: defaultdict[str, int] = defaultdict(int)
    for tensor in report.kept:
        reason = report.reasons[tensor.name]
        names[reason].append(tensor.name)
        weights[reason] += prod(tensor.shape)
    total = report.weights + sum(weights.values())
    parts = [KeptPart(reason, weights[reason] / total, tuple(names[reason])) for reason in names]
    return sorted(parts, key=lambda part: -part.share)


def show_kept(report: PackReport) -> None:
    """Print the packed share, and a line per reason for unquantized tensors."""
    how = "kept" if report.roundings else "kept as they were"
    print(f"packed {report.packed_share:.1%} of all weights; {how}:")
    for part in kept_parts(report):
        print(f"  {part.share:6.1%}  {part.reason}: {_shown(part.tensors)}")


def warn_of_share(report: PackReport) -> None:
    """Warn on standard error if the packed share is low, and say which option raises it."""
    if report.packed_share >= _ENOUGH:
        return
    parts = [part for part in kept_parts(report) if part.share >= 0.01]
    cures = [f"--include {part.tensors[0].removesuffix('.weight').rpartition('.')[2]}"
             for part in parts if part.reason in _OPTIONAL]
    reasons = ", ".join(f"{part.reason} ({part.share:.1%})" for part in parts)
    cure = f"; {' '.join(cures)} packs what can be packed of them" if cures else ""
    console.print(f"warning: only {report.packed_share:.1%} of the weights are packed; kept are "
                  f"{reasons}{cure}", markup=False, soft_wrap=True)


def name_patterns(names: Iterable[str]) -> list[str]:
    """Return the distinct names, sorted, with an asterisk for each layer number."""
    return sorted({re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names})


def _shown(names: Iterable[str]) -> str:
    patterns = name_patterns(names)
    more = len(patterns) - _PATTERNS
    return ", ".join(patterns[:_PATTERNS]) + (f" and {more} more" if more > 0 else "")
