"""Several files as one input."""

from pathlib import Path
from struct import Struct

__all__ = ["joined", "parted", "written"]

_HEAD = Struct("<BI")


def joined(files: dict[int, bytes]) -> bytes:
    """Files by number as bytes."""
    return b"".join(_HEAD.pack(number, len(data)) + data for number, data in files.items())


def parted(data: bytes) -> dict[int, bytes]:
    """Reverse of :func:`joined`, of any bytes: what is missing at the end is left out."""
    files, place = {}, 0
    while len(data) - place >= _HEAD.size:
        number, size = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        files[number] = data[place:place + size]
        place += size
    return files


def written(data: bytes, folder: Path, names: tuple[str, ...]) -> Path:
    """Write the files of an input whose numbers have names; the directory, made."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in parted(data).items():
        if number < len(names):
            (folder / names[number]).write_bytes(content)
    return folder
