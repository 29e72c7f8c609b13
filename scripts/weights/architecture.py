"""Architecture of a checkpoint, for the commands that pack or check it."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tritstream.golden.checkpoints.choice import Architecture
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.scripts.console import console

__all__ = ["Found", "architecture_of", "packed_architecture", "warn_of_faults"]


@dataclass(frozen=True)
class Found:
    """Architecture, or the reason why it is unknown; ``is_fault`` if the checkpoint is faulty."""

    architecture: Architecture | None
    reason:       str = ""
    is_fault:     bool = False


def architecture_of(source: Source) -> Found:
    """Return the architecture described by the config.json of a source."""
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    return _look_up(source.path, source.config, shapes)


def packed_architecture(packed: PackedCheckpoint) -> Found:
    """Return the architecture of a packed checkpoint, with its tensors as in the source."""
    shapes = {name: tensor.shape for name, tensor in packed.kept.items()}
    shapes |= {name: packed.source_shape(name) for name in packed.origins}
    return _look_up(packed.path, packed.config, shapes)


def warn_of_faults(path: Path, found: Found) -> None:
    """Warn on standard error, before long work, if its result could not be loaded."""
    if found.is_fault:
        _warn(f"{found.reason}. Matrices are chosen by their names")
    architecture = found.architecture
    if architecture and (missing := architecture.missing):
        _warn(f"{path}: lacks {len(missing)} tensors of {architecture.name}, the first "
              f"{missing[0]}; no model can be loaded from it, packed or not: check config.json, "
              "or copy the checkpoint again")


def _warn(text: str) -> None:
    console.print(f"warning: {text}", markup=False, soft_wrap=True)


def _look_up(path: Path, config: Mapping, shapes: Mapping[str, tuple[int, ...]]) -> Found:
    if not (find_spec("torch") and find_spec("transformers")):
        return Found(None, "torch and transformers are not installed")
    if not config.get("model_type"):
        return Found(None, "config.json names no model_type")
    # An extra, which takes seconds to import.
    from tritstream.host.model.architecture import read_architecture

    try:
        return Found(read_architecture(path, config, shapes))
    except CheckpointError as error:
        return Found(None, str(error), is_fault=True)
