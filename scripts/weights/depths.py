"""Depths of matrices for a budget of bits, from losses that are measured once and kept."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tritstream.golden.checkpoints.choice import BY_NAME, Selection
from tritstream.golden.checkpoints.row_reader import weights_of
from tritstream.golden.checkpoints.safetensors_reader import load_json
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import MAX_DEPTH
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.layout import Layout
from tritstream.golden.quantizers.depth_budget import DEPTHS, Losses, choose_depths, measure
from tritstream.golden.quantizers.registry import Method
from tritstream.scripts.console import progress, write_text

__all__ = ["depths_by_budget"]

#: Directory of measured losses, which other budgets and resumed runs use again.
_KEPT = Path("build/depths")


def depths_by_budget(
    model: Path, method: Method, budget: float, selection: Selection = BY_NAME,
) -> dict[str, int]:
    """Return the depth per matrix for an average of ``budget`` stored bits per weight."""
    source = open_source(model, tokenizer=False)
    losses, path = {}, _KEPT / f"{_key(source, method)}.json"
    kept = _read_kept(path)
    matrices = source.choose(selection).matrices
    with progress("measuring", len(matrices)) as advance:
        for name, tensor in matrices.items():
            if name not in kept:
                kept[name] = measure(weights_of(tensor), method, tensor.name)
                write_text(path, json.dumps(kept))
            rows, columns = tensor.shape
            layout = Layout.of(method.grouping, columns)
            losses[name] = Losses((rows, columns), tuple(kept[name]), tuple(
                layout.size((rows, columns), depth) for depth in DEPTHS))
            advance(1, name)
    return choose_depths(losses, budget)


def _read_kept(path: Path) -> dict[str, Sequence[float]]:
    """Return the losses of earlier runs by matrix; a damaged file is removed, so they are measured.
    """
    try:
        kept = load_json(path) if path.is_file() else {}
        if all(isinstance(found, list) and len(found) == MAX_DEPTH
               and all(type(loss) in (int, float) for loss in found) for found in kept.values()):
            return kept
    except CheckpointError:
        pass
    path.unlink()
    return {}


def _key(source: Source, method: Method) -> str:
    made = {"files": source.fingerprint(), "path": str(source.path.resolve()),
            "codec": method.codec, "settings": dict(method.settings)}
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
