"""The command smooth, which evens out the activations of a model before quantization."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritstream.golden.checkpoints.casting import AUTO, DTYPE_NAMES, check_dtype
from tritstream.golden.checkpoints.smoothed import SmoothedSource, input_sets, tensor_factors
from tritstream.golden.checkpoints.unrotated import unrotated
from tritstream.golden.fixed_point import half_range
from tritstream.golden.jobs.directory_job import check_out
from tritstream.golden.open_source import open_source
from tritstream.scripts.console import print_json, progress, reports_errors, table
from tritstream.scripts.options import Force, Json, Model, Output
from tritstream.scripts.weights.checkpoints import write_source
from tritstream.scripts.weights.token_windows import text_windows

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from tritstream.host.model.smoothing import Choice

__all__ = ["smooth"]


@reports_errors
def smooth(
    model: Model,
    output: Output,
    text: Annotated[Path, typer.Option(
        help="Plain text in UTF-8, of the kind that the model will read.")],
    depth: Annotated[int, typer.Option(
        "--depth", "-d", help="Trits per weight to which OUTPUT will be quantized, 1..4.")] = 3,
    tokens: Annotated[int, typer.Option(
        help="Maximum number of tokens to read from the text.")] = 1024,
    dtype: Annotated[str, typer.Option(
        help=f"Dtype of the weights: {AUTO}, {', '.join(DTYPE_NAMES)}. auto: a changed tensor gets "
             "float32, unless 16 bits are exact; other tensors keep their dtype.")] = AUTO,
    force: Force = False,
    as_json: Json = False,
):
    """Move factors from activations into weights, so that the model loses less when quantized.

    The model computes the same results. Quantize OUTPUT instead of MODEL.
    """
    from tritstream.host.model.load import load_model
    from tritstream.host.model.smoothing import find_factors

    half_range(depth)
    check_dtype(dtype)
    check_out(output, force)
    source = unrotated(open_source(model))
    sets, windows = input_sets(source), text_windows(model, text, tokens)
    with progress("smoothing", len(sets)) as advance:
        choices = find_factors(load_model(model), sets, windows, depth,
                               lambda name: advance(1, name))
    factors = tensor_factors((choice.inputs, choice.factors) for choice in choices)
    write_source(SmoothedSource(source, factors), output, force, dtype)
    report = {"output": str(output), "depth": depth, "tokens": sum(map(len, windows)),
              "inputs": [_record(choice) for choice in choices]}
    print_json(report) if as_json else _show(report)


def _record(choice: "Choice") -> dict:
    return {"readers": list(choice.inputs.readers), "alpha": choice.alpha,
            "error_before": choice.before, "error_after": choice.after}


def _show(report: dict) -> None:
    table("", ["inputs of", "alpha", "squared error before", "after"], [[
        record["readers"][0], f"{record['alpha']:.1f}", f"{record['error_before']:.2e}",
        f"{record['error_after']:.2e}"] for record in report["inputs"]])
    print(f"\n{report['tokens']} tokens read; errors are of weights at d = {report['depth']} "
          "and int8 activations, relative to the results' squares")
    print(f"smoothed checkpoint, to be quantized: {report['output']}")
