"""Open a checkpoint in any supported format."""

from collections.abc import Mapping
from pathlib import Path

from tritstream.golden.checkpoints.diagnosis import about_path
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.checkpoints.hub import local_model
from tritstream.golden.checkpoints.safetensors_reader import GoneFile
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.i2s_order import I2S_ORDERS, check_i2s_order, in_i2s_order

__all__ = ["open_source"]


def open_source(
    path: str | Path, *, tokenizer: bool = True, i2s_order: str = I2S_ORDERS[0],
    gone: Mapping[str, GoneFile] | None = None,
) -> Source:
    """Return the checkpoint in a directory or a GGUF file. GGUF needs the package gguf.

    ``path`` may also be the name of a model on the Hub, see :func:`.local_model`. Without
    ``tokenizer``, the tokenizer of a GGUF file is neither read nor written. ``i2s_order`` is one of
    :data:`.I2S_ORDERS`. ``gone`` describes deleted files of weights of a directory.

    Raises :class:`CheckpointError` for an unusable path or an unsupported format, and for another
    order than the default if no matrix is in I2_S. Raises :class:`ValueError` for an unknown order.
    """
    check_i2s_order(i2s_order)
    source = _open(local_model(path), tokenizer, gone)
    return source if i2s_order == I2S_ORDERS[0] else in_i2s_order(source, i2s_order)


def _open(path: Path, tokenizer: bool, gone: Mapping[str, GoneFile] | None) -> Source:
    if not path.is_file():
        return DirectorySource(path, gone)
    with path.open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    if not is_gguf and (advice := about_path(path)):
        raise CheckpointError(f"{path}: {advice}")
    try:
        from tritstream.golden.gguf.source import GgufSource
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path}: reading GGUF needs the package gguf; run pip install "
                              "'tritstream[gguf]'") from error
    return GgufSource(path, tokenizer=tokenizer)
