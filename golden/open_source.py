"""Opens a checkpoint in any supported format."""

from pathlib import Path

from tritstream.golden.checkpoints.diagnosis import (
    about_path,
)
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.errors import CheckpointError

__all__ = ["open_source"]


def open_source(path: str | Path, *, tokenizer: bool = True) -> Source:
    """The checkpoint of a directory, or of a GGUF file, for which the gguf package is needed.

    Without a ``tokenizer``, that of a GGUF file is neither read nor written.

    Raises :class:`CheckpointError` for anything else.
    """
    if not Path(path).is_file():
        return DirectorySource(path)
    with Path(path).open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    if not is_gguf and (advice := about_path(Path(path))):
        raise CheckpointError(f"{path}: {advice}")
    try:
        from tritstream.golden.gguf.source import GgufSource
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path}: reading GGUF needs the package gguf; run pip install "
                              "'tritstream[gguf]'") from error
    return GgufSource(path, tokenizer=tokenizer)
