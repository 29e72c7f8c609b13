"""Unquantized checkpoints: quantizing must verify, and importing must keep every value."""

from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.quantizers.registry import method_of
from tritstream.golden.recover import ratios
from tritstream.golden.recover.import_checkpoint import import_checkpoint
from tritstream.golden.rounding import float_bits, magnitude_mask
from tritstream.scripts.assurance.fuzz.bundle import written
from tritstream.scripts.assurance.fuzz.models import NAMES, recovered_seeds, source_seeds
from tritstream.scripts.assurance.fuzz.target import Broken, Target
from tritstream.scripts.assurance.fuzz.targets.checkpoint import changed_checkpoint

__all__ = ["IMPORT", "QUANTIZE"]


def _quantize(data: bytes, folder: Path) -> None:
    path = written(data, folder / "model", NAMES)
    for name, depth in (("tritllm-v2", 3), ("search", 2)):
        out = folder / name
        pack_checkpoint(path, out, depth, method=method_of(name, "numpy"))
        errors = [one for one in verify(out, path) if one.kind == "error"]
        if errors:
            raise Broken(f"{name}: {errors[0].tensor}: {errors[0].message}")


def _import(data: bytes, folder: Path) -> None:
    path = written(data, folder / "model", NAMES)
    report = import_checkpoint(path, folder / "packed", keep_going=True)
    for misfit in report.misfits:
        if misfit.outcome.distinct:
            ratios(DirectorySource(path).read(f"{misfit.name}.weight"))
    export(folder / "packed", folder / "back")
    source, back = DirectorySource(path), DirectorySource(folder / "back")
    for name, tensor in source.tensors.items():
        if not _same(tensor.read(), back.read(name)):
            raise Broken(f"{name} is not what was imported")


def _same(mine: np.ndarray, theirs: np.ndarray) -> bool:
    """Return whether all values are equal, except for the signs of zeros."""
    if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
        return False
    if mine.dtype.name not in ("float16", "bfloat16", "float32"):
        return mine.tobytes() == theirs.tobytes()
    mine, theirs = float_bits(mine), float_bits(theirs)
    return not ((mine != theirs) & ((mine | theirs) & magnitude_mask(mine.dtype) > 0)).any()


QUANTIZE = Target("unquantized checkpoints: quantize by two methods, verify against the source",
                  source_seeds, _quantize, changed_checkpoint, seconds=10)
IMPORT = Target("dequantized checkpoints: import, export, compare",
                recovered_seeds, _import, changed_checkpoint, seconds=10)
