"""The command random-model, which writes random weights in the shapes of Qwen2.5."""

from math import prod
from typing import Annotated

import typer

from tritstream.golden.checkpoints.safetensors_reader import DTYPES, FLOATS
from tritstream.golden.checkpoints.sharding import SHARD_SIZE
from tritstream.golden.generated.source import GeneratedSource
from tritstream.scripts.console import Failure, reports_errors
from tritstream.scripts.options import (
    MEGABYTE,
    Force,
    Layers,
    ModelSize,
    Output,
    ShardSize,
    Shrink,
    Vocab,
)
from tritstream.scripts.weights.checkpoints import write_source

__all__ = ["random_model"]

_DTYPES = {DTYPES[name].name: name for name in FLOATS}


@reports_errors
def random_model(
    size: ModelSize,
    output: Output,
    layers: Layers = None,
    vocab: Vocab = None,
    shrink: Shrink = 1,
    depth: Annotated[int | None, typer.Option(
        "--depth", "-d", help="Trits per weight, 1..4, of matrices that were quantized and "
                              "dequantized again, for import.",
        show_default="weights before quantization")] = None,
    shard_size: ShardSize = SHARD_SIZE // MEGABYTE,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the weights.")] = 0,
    dtype: Annotated[str, typer.Option(
        help=f"Type of the weights: {', '.join(_DTYPES)}.")] = "bfloat16",
    force: Force = False,
):
    """Write random weights in the shapes of a Qwen2.5, for measurements. Writes no tokenizer."""
    if dtype not in _DTYPES:
        raise Failure(f"dtype must be one of {', '.join(_DTYPES)}, not {dtype}")
    source = GeneratedSource(size, layers=layers, vocabulary=vocab, seed=seed,
                             dtype=_DTYPES[dtype], depth=depth, shrink=shrink,
                             shard_size=shard_size * MEGABYTE)
    write_source(source, output, force)
    count = sum(prod(tensor.shape) for tensor in source.tensors.values())
    linear = sum(prod(tensor.shape) for tensor in source.matrices().values())
    print(f"{count} random weights, {linear} of them in linear layers; no tokenizer")
    print(f"Hugging Face checkpoint: {output}")
