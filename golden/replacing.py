"""Outputs that may be replaced: only files that tritstream wrote, and that are as it left them."""

import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from golden.shards import CheckpointError
from golden.texts import parse_json
from golden.writing import writing

__all__ = ["MANIFEST", "check_replaceable", "check_same_kind", "check_work_folder", "discard",
           "files_of_job", "own_files", "write_manifest"]

#: List of the files that a job wrote, in the directory that it made. Hidden, so it is never
#: copied along with the weights.
MANIFEST = ".tritstream.json"

_CONFIG, _INDEX, _WEIGHTS = "config.json", "model.safetensors.index.json", ".safetensors"
#: Value of ``quant_method``, and key in the metadata of the shards, of a packed checkpoint.
_PACKED = "tritstream"
#: Files that go with the weights of almost every model: known where no manifest lists them.
_COMPANIONS = frozenset((
    "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "README.md",
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json",
    "merges.txt", "preprocessor_config.json", "processor_config.json", "special_tokens_map.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "training.json", "vocab.json",
    "vocab.txt",
))

#: First bytes of a file that tell its kind.
_FIRST = 8

#: Returns the fault that makes a file foreign, or None for a file that tritstream wrote.
Judge = Callable[[Path], str | None]


def check_replaceable(
    out: Path, force: bool, judge: Judge | None = None, temporary: Iterable[str] = (),
) -> None:
    """Raise unless ``out`` does not exist, or is an output of ours and ``force`` is given.

    A directory is ours when each file in it is: listed in its manifest and unchanged, or a
    recognisable part of a packed checkpoint. A file is ours when ``judge`` finds no fault.
    ``temporary`` names files of ours that no manifest lists.

    Raises :class:`CheckpointError`, which names the first foreign file.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise CheckpointError(f"{out}: exists already; remove it, choose another, or force")
    if judge:
        _check_file(out, judge)
    else:
        own_files(out, temporary)


def check_same_kind(path: Path, data: bytes) -> None:
    """Raise unless ``path`` is free, or holds an earlier output of the kind of ``data``.

    Of one kind are JSON objects that share half of their keys, and other files with the same
    first bytes. A file that is empty has nothing to lose.

    Raises :class:`CheckpointError` for anything else, devices and pipes among it.
    """
    if not path.exists():
        return
    _check_file(path.resolve(), lambda file: None if _same_kind(file.read_bytes(), data)
                else "holds something else than this command writes")


def check_work_folder(folder: Path, marks: Iterable[str]) -> None:
    """Raise unless tools may work in a folder: it is new, empty, or has a file of ``marks``.

    Raises :class:`CheckpointError`, which names a file that is there.
    """
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if found and not any((folder / mark).is_file() for mark in marks):
        raise _foreign(folder, f"{found[0]} is in it, and no build of tritstream")


def own_files(directory: Path, temporary: Iterable[str] = ()) -> list[Path]:
    """All files of a directory of ours, in the order in which they can be removed.

    Raises :class:`CheckpointError` when the directory, or one file in it, is not ours.
    """
    if directory.is_symlink() or not directory.is_dir():
        raise _foreign(directory, "is not a directory that tritstream wrote")
    judge, temporary = _judge_of(directory), frozenset(temporary)
    paths = sorted(directory.iterdir())
    for path in paths:
        if path.name not in temporary and (fault := judge(path)):
            raise _foreign(directory, f"{path.name} {fault}")
    # The files that tell whose directory it is go last: a kill in between leaves it ours.
    return sorted(paths, key=lambda path: (path.name == MANIFEST, path.name == _CONFIG))


def files_of_job(directory: Path, parameters: dict, journal: str) -> list[Path]:
    """Files of the unfinished output of a job with these parameters, without its journal.

    Raises :class:`CheckpointError` when another file is in it.
    """
    paths = [path for path in sorted(directory.iterdir()) if path.name != journal]
    for path in paths:
        if not (parameters and _is_output(path, parameters)):
            raise _foreign(directory, f"{path.name} was not written by tritstream")
    return paths


def discard(directory: Path, files: Iterable[Path]) -> None:
    """Remove files and then their directory, which must be empty by then."""
    for path in files:
        with writing(path):
            path.unlink(missing_ok=True)
    with writing(directory):
        directory.rmdir()


def write_manifest(directory: Path, parameters: dict) -> None:
    """Write the manifest of the files that a job with these parameters wrote in a directory."""
    files = {path.name: _state(path) for path in sorted(directory.iterdir())
             if path.name != MANIFEST and _is_output(path, parameters)}
    with writing(directory / MANIFEST):
        (directory / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n")


def _is_output(path: Path, parameters: dict) -> bool:
    """Whether a job with these parameters writes a file of this name."""
    lists = [parameters.get(part) for part in ("files", "shards")]
    known = {name for names in lists if isinstance(names, dict) for name in names}
    known |= _COMPANIONS | {_CONFIG, _INDEX, MANIFEST}
    good = path.name in known or path.name.endswith(_WEIGHTS)
    return good and path.is_file() and not path.is_symlink()


def _check_file(path: Path, judge: Judge) -> None:
    fault = "is not a file" if path.is_symlink() or not path.is_file() else judge(path)
    if fault:
        raise CheckpointError(f"{path}: {fault}, so it is not replaced; choose another, or remove "
                              "it yourself")


def _same_kind(old: bytes, new: bytes) -> bool:
    keys = [_keys(data) for data in (old, new)]
    if None not in keys:
        return 2 * len(keys[0] & keys[1]) >= min(map(len, keys))
    starts = old[:_FIRST] == new[:_FIRST] or old[8:9] == new[8:9] == b"{"      # safetensors
    return not old or keys == [None, None] and starts


def _keys(data: bytes) -> set[str] | None:
    """Keys of a JSON object, None of anything else."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        value = parse_json(data, finite=False)
    except ValueError:
        return None
    return set(value) if isinstance(value, dict) else None


def _foreign(directory: Path, fault: str) -> CheckpointError:
    return CheckpointError(f"{directory}: {fault}, so nothing is replaced; choose another "
                           "directory, or remove this one yourself")


def _state(path: Path) -> list[int | str]:
    """Size, and CRC-32: of the complete file, or of the header only where weights follow it."""
    data = _head(path) if path.name.endswith(_WEIGHTS) else path.read_bytes()
    return [path.stat().st_size, f"{zlib.crc32(data):08x}"]


def _head(path: Path) -> bytes:
    """The length and the header of a safetensors file, or what there is of them."""
    with path.open("rb") as file:
        length = file.read(8)
        return length + file.read(min(int.from_bytes(length, "little"), path.stat().st_size))


def _judge_of(directory: Path) -> Judge:
    try:
        listed = parse_json((directory / MANIFEST).read_bytes())["files"]
    except FileNotFoundError:
        return _judge_by_form(directory)
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        listed = {}
    if not isinstance(listed, dict):
        listed = {}

    def judge(path: Path) -> str | None:
        if path.is_symlink() or not path.is_file():
            return "was not written by tritstream"
        if path.name == MANIFEST:
            return None if listed else "is damaged"
        if path.name not in listed:
            return "was not written by tritstream"
        return None if listed[path.name] == _state(path) else "was changed since it was written"
    return judge


def _judge_by_form(directory: Path) -> Judge:
    """The judge of a directory without a manifest: a packed checkpoint shows what it is."""
    packed = _is_packed(directory / _CONFIG)

    def judge(path: Path) -> str | None:
        plain = path.is_file() and not path.is_symlink()
        if packed and plain and (path.name in (_CONFIG, _INDEX) or path.name in _COMPANIONS
                                 or _is_packed_shard(path)):
            return None
        return "was not written by tritstream"
    return judge


def _is_packed(config: Path) -> bool:
    """Whether a configuration is that of a packed checkpoint."""
    try:
        fields = parse_json(config.read_bytes(), finite=False)["quantization_config"]
        return fields["quant_method"] == _PACKED
    except (KeyError, OSError, TypeError, ValueError):
        return False


def _is_packed_shard(path: Path) -> bool:
    """Whether the header of a file says that it holds packed matrices."""
    try:
        return path.name.endswith(_WEIGHTS) and _PACKED in parse_json(_head(path)[8:])[
            "__metadata__"]
    except (KeyError, OSError, TypeError, ValueError):
        return False
