"""Small checkpoints as seeds."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save

from tritstream.golden.matrix import row_dequantizer
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.quantize import quantize
from tritstream.golden.recover.import_checkpoint import import_checkpoint
from tritstream.golden.rounding import FORM, FORMS
from tritstream.scripts.assurance.fuzz.bundle import joined

__all__ = ["NAMES", "files_of", "packed_seeds", "recovered_seeds", "source_files",
           "source_seeds", "write_source"]

#: Files of a checkpoint by number.
NAMES = ("config.json", "model.safetensors", "model.safetensors.index.json",
         "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json",
         "packed.safetensors", "packed.safetensors.index.json",
         "packed-00001-of-00002.safetensors", "packed-00002-of-00002.safetensors")

_DTYPES = {"F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16),
           "F32": np.dtype(np.float32)}


def packed_seeds() -> list[bytes]:
    """Return packed checkpoints of every depth, in one file and in two, and imported ones."""
    def packed(depth: int, **how) -> bytes:
        return _made(lambda source, out: pack_checkpoint(source, out, depth), **how)

    seeds = [packed(depth, dtype=dtype) for depth, dtype in ((1, "F16"), (3, "BF16"), (4, "F32"))]
    seeds.append(packed(2, sharded=True))
    for form, dtype in ((FORM.name, "F16"), ("s/h*q in bfloat16", "BF16")):
        seeds.append(_made(import_checkpoint, dtype=dtype, form=form))
    return seeds


def source_seeds() -> list[bytes]:
    """Return unquantized checkpoints."""
    files = [source_files("F16"), source_files("BF16", sharded=True), source_files("F32")]
    return [joined(one) for one in files]


def recovered_seeds() -> list[bytes]:
    """Return checkpoints with dequantized weights."""
    forms = (("F16", FORM.name), ("F32", "s*(q/h)"), ("BF16", "s*q/h in bfloat16"))
    return [joined(source_files(dtype, form=form)) for dtype, form in forms]


def files_of(path: Path) -> dict[int, bytes]:
    """Return the files of a directory, by number."""
    return {number: (path / name).read_bytes() for number, name in enumerate(NAMES)
            if (path / name).is_file()}


def write_source(path: Path, files: dict[int, bytes]) -> Path:
    """Write files, given by number, into a new directory, and return its path."""
    path.mkdir(parents=True)
    for number, data in files.items():
        (path / NAMES[number]).write_bytes(data)
    return path


def source_files(
    dtype: str = "F16", sharded: bool = False, form: str | None = None,
) -> dict[int, bytes]:
    """Return the files of a checkpoint: two matrices, an embedding, a norm, a bias."""
    tensors = _tensors(_DTYPES[dtype], form)
    files = {0: json.dumps({"model_type": "llama", "hidden_size": 20}).encode(),
             5: b'{"version": "1.0"}'}
    if not sharded:
        return files | {1: save(tensors, {"format": "pt"})}
    names = list(tensors)
    places: dict[str, str] = {}
    for number, some in ((3, names[:2]), (4, names[2:])):
        files[number] = save({name: tensors[name] for name in some}, {"format": "pt"})
        places |= dict.fromkeys(some, NAMES[number])
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    return files | {2: json.dumps(index).encode()}


def _tensors(dtype: np.dtype, form: str | None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(form or ""))

    def matrix(*shape: int) -> np.ndarray:
        weights = rng.standard_normal(shape).astype(np.float32)
        if form is None:
            return weights.astype(dtype)
        made = quantize(weights, 2)
        object.__setattr__(made, "form", FORMS[form])
        return np.ascontiguousarray(row_dequantizer(made, dtype)(slice(0, shape[0])))

    return {"model.embed_tokens.weight": rng.standard_normal((3, 20)).astype(dtype),
            "l.0.up_proj.weight": matrix(7, 20), "l.0.down_proj.weight": matrix(6, 33),
            "l.0.norm.weight": np.ones(20, dtype), "l.0.up_proj.bias": np.zeros(7, dtype)}


def _made(make: Callable[[Path, Path], object], **how) -> bytes:
    """Return the files that ``make`` writes from a source."""
    with tempfile.TemporaryDirectory() as folder:
        source = write_source(Path(folder) / "source", source_files(**how))
        make(source, Path(folder) / "out")
        return joined(files_of(Path(folder) / "out"))
