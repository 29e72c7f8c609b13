"""Several files joined into one input."""

from pathlib import Path
from struct import Struct

__all__ = ["joined", "parted", "written"]

_HEAD = Struct("<BI")


def joined(files: dict[int, bytes]) -> bytes:
    """Return files, given by number, as one input."""
    return b"".join(_HEAD.pack(number, len(data)) + data for number, data in files.items())


def parted(data: bytes) -> dict[int, bytes]:
    """Return the files of an input; the last one may be cut off. Reverse of :func:`joined`."""
    files, place = {}, 0
    while len(data) - place >= _HEAD.size:
        number, size = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        files[number] = data[place:place + size]
        place += size
    return files


def written(data: bytes, folder: Path, names: tuple[str, ...]) -> Path:
    """Write the files whose numbers have names into a new directory, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in parted(data).items():
        if number < len(names):
            (folder / names[number]).write_bytes(content)
    return folder
