"""Synthetic checkpoints, written with the safetensors library and not with ours."""

import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tritstream.golden.matrix import whole
from tritstream.golden.quantizers.registry import DEFAULT, METHODS

__all__ = [
    "DTYPES", "NO_MODEL", "contents", "linear_names", "make_checkpoint", "message", "quantized",
    "rewrite", "run_python", "save_halves", "save_sealed", "write_json",
]

DTYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
#: What is said of a path that does not exist.
NO_MODEL = ("no such file or directory; give the directory of a checkpoint, or the name of a model "
            "on the Hub, such as Qwen/Qwen2.5-0.5B")
ROOT = Path(__file__).parents[2]


def make_checkpoint(path, dtype="BF16", sharded=False, tied=True, layers=2, seed=0):
    """A Qwen2-like checkpoint whose sizes are multiples of nothing; returns its tensors."""
    path.mkdir(parents=True)
    tensors = random_tensors(DTYPES[dtype], tied, layers, np.random.default_rng(seed))
    if sharded:
        save_shards(path, tensors)
    else:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    write_json(path / "config.json", {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 37,
        "tie_word_embeddings": tied, "torch_dtype": "bfloat16"})
    write_json(path / "tokenizer.json", {"version": "1.0", "added": "\u00e9"})
    write_json(path / "generation_config.json", {"top_p": 0.8})
    (path / "LICENSE").write_text("as is\n")
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return tensors


def random_tensors(dtype, tied, layers, rng):
    def draw(*shape):
        return (rng.standard_normal(shape) * 0.02).astype(dtype)

    tensors = {"model.embed_tokens.weight": draw(29, 37), "model.norm.weight": draw(37)}
    for layer in range(layers):
        name = f"model.layers.{layer}"
        tensors |= {
            f"{name}.self_attn.q_proj.weight": draw(37, 37),
            f"{name}.self_attn.q_proj.bias": draw(37),
            f"{name}.mlp.up_proj.weight": draw(50, 37),
            f"{name}.mlp.down_proj.weight": draw(37, 50),
            f"{name}.input_layernorm.weight": draw(37),
        }
    if not tied:
        tensors["lm_head.weight"] = draw(29, 37)
    return tensors


def save_shards(path, tensors):
    names = list(tensors)
    half = len(names) // 2
    save_halves(path, [{name: tensors[name] for name in part}
                       for part in (names[:half], names[half:])])


def save_halves(path, halves):
    """Two files of tensors, with their index."""
    places, size = {}, 0
    for number, tensors in enumerate(halves, 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file(tensors, path / file, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file)
        size += sum(tensor.nbytes for tensor in tensors.values())
    write_json(path / "model.safetensors.index.json",
               {"metadata": {"total_size": size}, "weight_map": places})


def linear_names(tensors):
    """Modules that are to be quantized."""
    return [name.removesuffix(".weight") for name in tensors if "_proj.weight" in name]


def write_json(path, value):
    path.write_text(json.dumps(value))


def contents(path):
    """Every file of a directory but the manifest: bytes by name."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())
            if file.name != ".tritstream.json"}


def message(text):
    """A pattern that only this whole text fits; ``text`` may have no line break."""
    return f"^{re.escape(text)}$"


def run_python(code, *arguments):
    """Run a program with this checkout on its path; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300)


def rewrite(packed, change):
    """Write a packed shard again with checksums that fit, after ``change(tensors, records)``.

    So only what ``change`` did is wrong with it.
    """
    path = packed / "packed.safetensors"
    tensors = load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    records = json.loads(metadata["tritstream"])
    change(tensors, records)
    for name in tensors.keys() & records.keys():
        records[name]["crc32"] = f"{zlib.crc32(tensors[name].tobytes()):08x}"
    save_sealed(tensors, path, metadata | {"tritstream": json.dumps(records)})


def save_sealed(tensors, path, metadata):
    """Write a file by the safetensors library, then the CRC-32 of its header into it."""
    save_file(tensors, path, metadata | {"tritstream_header_crc32": "00000000"})
    data = path.read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    header = data[8:size]
    field = b'"tritstream_header_crc32":"%s"'
    assert header.count(field % b"00000000") == 1
    header = header.replace(field % b"00000000", field % b"%08x" % zlib.crc32(header))
    path.write_bytes(data[:8] + header + data[size:])


def quantized(weights, depth):
    """The matrix that packing makes of weights by default."""
    return whole(METHODS[DEFAULT](weights, depth))
