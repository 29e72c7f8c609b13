"""Depths of matrices by a budget of bits, from losses that are measured once and kept."""

import hashlib
import json
from pathlib import Path

from tritstream.golden.checkpoints.choice import BY_NAME, Selection
from tritstream.golden.checkpoints.row_reader import weights_of
from tritstream.golden.checkpoints.safetensors_reader import load_json
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.errors import CheckpointError
from tritstream.golden.fixed_point import MAX_DEPTH
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.plan import source_fingerprint
from tritstream.golden.quantizers.depth_budget import Losses, choose_depths, measure
from tritstream.golden.quantizers.registry import Method
from tritstream.scripts.console import progress, write_text

__all__ = ["depths_by_budget"]

#: Where losses are kept, so that another budget, or a run after a kill, need not measure again.
_KEPT = Path("build/depths")


def depths_by_budget(
    model: Path, method: Method, budget: float, selection: Selection = BY_NAME,
) -> dict[str, int]:
    """Depth of each matrix of a checkpoint, for ``budget`` stored bits a weight on average."""
    source = open_source(model, tokenizer=False)
    losses, path = {}, _KEPT / f"{_key(source, method)}.json"
    kept = _read_kept(path)
    matrices = source.choose(selection).matrices
    with progress("measuring", len(matrices)) as advance:
        for name, tensor in matrices.items():
            if name not in kept:
                kept[name] = measure(weights_of(tensor), method, tensor.name).losses
                write_text(path, json.dumps(kept))
            losses[name] = Losses(tensor.shape, tuple(kept[name]))
            advance(1, name)
    return choose_depths(losses, budget)


def _read_kept(path: Path) -> dict[str, list[float]]:
    """Losses that an earlier run kept; a damaged file is removed, and measured again."""
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
    made = {"files": source_fingerprint(source), "path": str(source.path.resolve()),
            "codec": method.codec, "settings": dict(method.settings)}
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
