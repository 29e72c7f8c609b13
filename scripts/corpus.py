"""Training text: the six novels of Jane Austen, or any directory of plain text.

The novels come from the R package `janeaustenr` (MIT; the text itself is in the public domain),
which Debian ships as `r-cran-janeaustenr`. R is not needed: the package keeps its data in a
lazy-load database, an index (`Rdata.rdx`) of offsets into a file of zlib streams (`Rdata.rdb`).
"""

import hashlib
import io
import tarfile
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritstream.golden.checkpoints.diagnosis import about_pointer
from tritstream.scripts.streams import storable

__all__ = ["Text", "debian_files", "hold_out", "read_corpus", "read_text"]

INDEX_NAME, DATABASE_NAME = "data/Rdata.rdx", "data/Rdata.rdb"
AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60


@dataclass(frozen=True)
class Text:
    """A document, with the name that its package or file gives it."""

    name: str
    text: str

    @property
    def data(self) -> bytes:
        return self.text.encode()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def summary(self) -> dict[str, str | int]:
        return {"name": self.name, "bytes": len(self.data), "sha256": self.sha256}


def read_text(path: Path) -> Text:
    """The text of a file, byte for byte but for a byte-order mark of UTF-8.

    Raises :class:`ValueError` unless it is UTF-8.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give plain text")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        advice = f"not UTF-8 at byte {error.start}; convert it, such as by `iconv -t UTF-8`"
        if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            advice = "is UTF-16; save it as UTF-8"
        raise ValueError(f"{path}: {advice}") from None
    if found := about_pointer(data):
        raise ValueError(f"{path}: {found}")
    return Text(storable(path.name), text)


def read_corpus(path: Path) -> list[Text]:
    """Documents at `path`, in the order of their names.

    `path` is a Debian package file, a directory one was unpacked to, or a directory of `*.txt`.
    """
    if path.is_file():
        texts = _read_lazy_load(_data_of_package(path.read_bytes()))
    elif indices := sorted(path.glob(f"**/{INDEX_NAME}")):
        texts = _read_lazy_load(_data_of_directory(indices[0]))
    else:
        texts = [Text(p.stem, p.read_text(encoding="utf-8")) for p in path.glob("*.txt")]
    if not texts:
        raise ValueError(f"Corpus must be an R data package or hold *.txt files, not {str(path)!r}")
    return sorted(texts, key=lambda text: text.name)


def hold_out(texts: list[Text], name: str) -> tuple[list[Text], Text]:
    """Return all texts except the one called `name`, and that text."""
    names = [text.name for text in texts]
    if name not in names:
        raise ValueError(f"Held-out text must be one of {names}, not {name!r}")
    return [text for text in texts if text.name != name], texts[names.index(name)]


def _data_of_directory(index: Path) -> tuple[bytes, bytes]:
    return index.read_bytes(), index.with_suffix(".rdb").read_bytes()


def debian_files(package: bytes, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Return the files of a Debian package, an `ar` archive that contains a tar archive, by name.

    `wanted` selects them by their names, such as "usr/share/doc/x/copyright". Links are left out.
    """
    archive = next(data for name, data in _ar_members(package) if name.startswith("data.tar"))
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if wanted(name) and member.isfile() and (file := tar.extractfile(member)):
                found[name] = file.read()
    return found


def _data_of_package(package: bytes) -> tuple[bytes, bytes]:
    """Index and database of a Debian package."""
    files = debian_files(package, lambda name: name.endswith((INDEX_NAME, DATABASE_NAME)))
    names = [name for name in files if name.endswith(INDEX_NAME)]
    if not names or (database := names[0].removesuffix("x") + "b") not in files:
        raise ValueError("the corpus package has no data of R; give that of r-cran-janeaustenr")
    return files[names[0]], files[database]


def _ar_members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    if not archive.startswith(AR_MAGIC):
        raise ValueError(f"Corpus file must be a Debian package, not {archive[:8]!r}...")
    offset = len(AR_MAGIC)
    while offset < len(archive):
        header = archive[offset : offset + AR_HEADER]
        offset += AR_HEADER
        size = int(header[48:58])
        yield header[:16].decode().strip().rstrip("/"), archive[offset : offset + size]
        offset += size + size % 2


def _read_lazy_load(index_and_database: tuple[bytes, bytes]) -> list[Text]:
    """Texts of a database whose variables are vectors of lines without line ends."""
    index, database = index_and_database
    texts = []
    for name, (offset, length) in _parse(index)["variables"].items():
        # Each zlib stream follows four bytes with the uncompressed length.
        lines = _parse(zlib.decompress(database[offset + 4 : offset + length]))
        texts.append(Text(str(name), "".join(f"{line}\n" for line in lines)))
    return texts


def _parse(serialized: bytes) -> Any:
    import rdata

    return rdata.conversion.convert(rdata.parser.parse_data(serialized, extension=".rds"))
