"""Diagnosis of files and directories that are no usable checkpoints, with advice.

All functions return the part of an error message after the path, or None if there is no diagnosis.
They never raise.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tritstream.golden.checkpoints.hub import cached_name
from tritstream.golden.checkpoints.weight_files import PLAIN, WeightFiles, is_packed, weight_files
from tritstream.golden.strict_json import parse_json

__all__ = ["about_directory", "about_file", "about_path", "about_pointer", "about_quantization",
           "about_weights"]

_LFS = b"version https://git-lfs.github.com/spec/"
_HTML = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
_MARKS = {b"\xef\xbb\xbf": "begins with a byte-order mark; save it as UTF-8 without one",
          b"\xff\xfe": "is UTF-16; save it as UTF-8", b"\xfe\xff": "is UTF-16; save it as UTF-8"}

_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_VARIANT = re.compile(r"model\.(\w+)\.safetensors(\.index\.json)?|model\.(\w+)-\d+-of-\d+\.safeten"
                      r"sors|model\.safetensors\.index\.(\w+)\.json")
_UNFINISHED = (".incomplete", ".part", ".aria2", ".crdownload")

_DIRECTORY = "give the directory of a checkpoint"
_DOWNLOAD = "the download is not complete; run it again until it ends without an error"
_PICKLES = ("holds weights as pickles of PyTorch; write them as safetensors first: load the model "
            "with transformers, then model.save_pretrained(DIR)")
_OWN_FORMAT = ("under its maker's own names of tensors; download the model in Hugging Face's "
               "format, with model.safetensors or model.safetensors.index.json")

#: Diagnosis of weights in other formats, by suffix of the file name.
_OTHER_FORMATS = {
    ".onnx": "holds an ONNX model; download the same model as safetensors",
    ".h5": "holds weights of TensorFlow; download the same model as safetensors",
    ".msgpack": "holds weights of Flax; download the same model as safetensors",
    ".bin": _PICKLES, ".pt": _PICKLES, ".pth": _PICKLES, ".ckpt": _PICKLES,
}

#: Methods of quantized models without a quantization_config: by file name, by end of tensor names.
_QUANTIZED_FILES = {"quantize_config.json": "GPTQ", "quant_config.json": "AWQ"}
_QUANTIZED_TENSORS = {
    ".qweight": "GPTQ or AWQ", ".weight.absmax": "bitsandbytes", ".SCB": "bitsandbytes",
    ".weight_packed": "compressed-tensors", ".B_q": "HQQ", ".W_q": "HQQ",
}


def about_file(head: bytes) -> str | None:
    """Diagnose a file by its first bytes: a pointer, a web page, or text in another encoding."""
    if pointer := about_pointer(head):
        return pointer
    if _HTML.match(head):
        return "is a web page, not the file itself; download the file again, with `hf download`"
    return next((text for mark, text in _MARKS.items() if head.startswith(mark)), None)


def about_pointer(head: bytes) -> str | None:
    """Diagnose a file that may hold any text except a Git LFS pointer."""
    if head.startswith(_LFS):
        return "is a Git LFS pointer, not the file itself; run `git lfs pull` in its directory"
    return None


def about_path(path: Path) -> str | None:
    """Diagnose a path that is not a directory, such as a model name or a single file."""
    if not path.exists():
        return _about_missing(path)
    head = _head(path)
    if head.startswith(b"GGUF"):
        return "is a GGUF file; write it as a checkpoint first, with `tritstream convert`"
    if not any(map(head.startswith, _MARKS)) and (found := about_file(head)):
        return found
    if path.suffix in (".safetensors", ".json"):
        return f"is one file of a checkpoint; give the directory {path.parent}"
    if path.suffix in (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".zst"):
        return "is an archive; unpack it and give the directory of the checkpoint"
    return _OTHER_FORMATS.get(path.suffix)


def about_directory(path: Path) -> str:
    """Diagnose a directory without config.json."""
    names = _names(path)
    checks: list[Callable[[], str | None]] = [
        lambda: _about_cache(path), lambda: _about_links(path, names),
        lambda: _about_download(path), lambda: _about_adapter(path),
        lambda: "is empty; " + _DIRECTORY if not names else None,
        lambda: _about_inner(path), lambda: _about_other_formats(path, names),
        lambda: _about_loose_weights(names, PLAIN)]
    found = next(filter(None, (check() for check in checks)), None)
    return found or f"has no config.json; {_DIRECTORY}"


def about_weights(path: Path, config: Mapping[str, Any]) -> str:
    """Diagnose a directory without its single file of weights and without the index."""
    names, due = _names(path), weight_files(config)
    checks: list[Callable[[], str | None]] = [
        lambda: _about_links(path, names), lambda: _about_download(path),
        lambda: _about_adapter(path),
        lambda: None if is_packed(config) else about_quantization(path, config, ()),
        lambda: _about_shards(names, due), lambda: _about_variants(names),
        lambda: _about_other_formats(path, names), lambda: _about_loose_weights(names, due)]
    found = next(filter(None, (check() for check in checks)), None)
    return found or (f"has no weights: neither {due.single} nor {due.index}; copy or download the "
                     "whole model")


def about_quantization(
    path: Path, config: Mapping[str, Any], tensors: Iterable[str],
) -> str | None:
    """Name the method of a quantized checkpoint, by config.json, another file, or tensor names."""
    if fields := config.get("quantization_config"):
        method = fields.get("quant_method") if isinstance(fields, dict) else None
        if isinstance(fields, dict) and not method and any("load_in_" in key for key in fields):
            method = "bitsandbytes"
        by, what = f" by {method}" if isinstance(method, str) else "", "quantization_config"
        return f"already quantized{by}, by its {what}; use the original checkpoint"
    for name, method in _QUANTIZED_FILES.items():
        if (path / name).is_file():
            return f"already quantized by {method}, by its {name}; use the original checkpoint"
    for tensor in tensors:
        for end, method in _QUANTIZED_TENSORS.items():
            if tensor.endswith(end):
                return (f"already quantized by {method}, by its tensor {tensor}; use the original "
                        "checkpoint")
    return None


def _head(path: Path) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        return file.read(256)
    return b""


def _names(path: Path) -> list[str]:
    with suppress(OSError):
        return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    return []


def _about_missing(path: Path) -> str:
    if path.is_symlink():
        return f"is a link to a file that does not exist; {_DIRECTORY}"
    partial = path.with_name(f"{path.name}.partial")
    if path.name and partial.is_dir():
        return f"not written to its end ({partial}); run the command that writes it again"
    return (f"no such file or directory; {_DIRECTORY}, or the name of a model on the Hub, such as "
            "Qwen/Qwen2.5-0.5B")


def _about_cache(path: Path) -> str | None:
    """Diagnose a directory of the hub's cache above a snapshot."""
    root = path.parent if path.name in ("snapshots", "blobs", "refs") else path
    if not cached_name(root):
        root = next((inner for inner in sorted(path.glob("models--*"))), root)
    name = cached_name(root)
    if not name:
        return None
    if snapshot := _snapshot(root):
        return f"is the hub's cache; give the snapshot of {name} in it: {snapshot}"
    return f"is the hub's cache, without a snapshot of {name}; run `hf download {name}`"


def _snapshot(root: Path) -> Path | None:
    """Return the snapshot of the branch main, else the newest complete snapshot."""
    with suppress(OSError, ValueError):
        main = root / "snapshots" / (root / "refs" / "main").read_text("utf-8").strip()
        if (main / "config.json").is_file():
            return main
    found = [file.parent for file in root.glob("snapshots/*/config.json") if file.is_file()]
    return max(found, key=lambda one: one.stat().st_mtime, default=None)


def _about_links(path: Path, names: Iterable[str]) -> str | None:
    for name in names:
        if name.endswith((".safetensors", ".json")) and not (path / name).exists():
            return f"{name} in it is a link to a file that is gone; download the model again"
    return None


def _about_download(path: Path) -> str | None:
    folders = (path, path / ".cache" / "huggingface" / "download", path.parent.parent / "blobs"
               if path.parent.name == "snapshots" else path)
    found = sorted(file.name for folder in folders for end in _UNFINISHED
                   for file in folder.glob(f"*{end}"))
    return f"has {found[0]}: {_DOWNLOAD}" if found else None


def _about_adapter(path: Path) -> str | None:
    if not (path / "adapter_config.json").is_file():
        return None
    base = None
    with suppress(OSError, ValueError, AttributeError):
        fields = parse_json((path / "adapter_config.json").read_bytes())
        base = fields.get("base_model_name_or_path")
    of = f" of {base}" if isinstance(base, str) else ""
    return (f"is a LoRA adapter{of}, not a model; merge it into its model first, by peft's "
            "merge_and_unload(), and give the directory of the merged model")


def _about_inner(path: Path) -> str | None:
    inner = sorted(file.parent for file in path.glob("*/config.json"))
    return f"has no config.json; give the checkpoint in it: {inner[0]}" if inner else None


def _about_shards(names: Iterable[str], due: WeightFiles) -> str | None:
    shards = [found for found in map(_SHARD.fullmatch, names)
              if found and f"{found[1]}.safetensors" == due.single]
    if not shards:
        return None
    total, present = int(shards[0][3]), {int(found[2]) for found in shards}
    missing = [number for number in range(1, total + 1) if number not in present]
    if missing:
        return f"has {len(present)} of {total} shards, and no {due.index}; {_DOWNLOAD}"
    return (f"has shards, but no {due.index}, which lists their tensors; download that file "
            "too")


def _about_variants(names: Iterable[str]) -> str | None:
    for name in names:
        if found := _VARIANT.fullmatch(name):
            variant = next(filter(None, (found[1], found[3], found[4])))
            plain = re.sub(rf"\.{variant}\b", "", name, count=1)
            return (f"has the weights of the variant {variant} only ({name}); give these files "
                    f"the names without it, {plain}, to use them")
    return None


def _about_other_formats(path: Path, names: list[str]) -> str | None:
    if own := next((name for name in names if name.startswith("consolidated")), None):
        return f"has its weights in {own}, {_OWN_FORMAT}"
    if "model_index.json" in names:
        return "holds a pipeline of diffusers, which has no causal language model"
    if gguf := next((name for name in names if name.endswith(".gguf")), None):
        return f"holds GGUF; give the file itself: {path / gguf}"
    for end, text in _OTHER_FORMATS.items():
        if any(name.endswith(end) and name != "training_args.bin" for name in names):
            return text
    return _OTHER_FORMATS[".onnx"] if any(path.glob("onnx/*.onnx")) else None


def _about_loose_weights(names: Iterable[str], due: WeightFiles) -> str | None:
    """Diagnose safetensors files with unexpected names."""
    found = [name for name in names if name.endswith(".safetensors")]
    if not found:
        return None
    if "config.json" not in names:
        return f"has {found[0]}, but no config.json; download that file too"
    return (f"has {found[0]}, but neither {due.single} nor {due.index}; if it holds the whole "
            f"model, call it {due.single}")
