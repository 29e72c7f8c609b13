"""The command quantize: packs a checkpoint by a method, at one or several depths."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from tritstream.golden.checkpoints.casting import AUTO, DTYPE_NAMES, check_dtype
from tritstream.golden.checkpoints.choice import BY_NAME, Selection
from tritstream.golden.fixed_point import half_range
from tritstream.golden.jobs.dask import on_cluster
from tritstream.golden.jobs.local import in_flight
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.report import PackReport, TensorReport
from tritstream.golden.quantizers.grouping import GROUPING, Grouping
from tritstream.golden.quantizers.registry import DEFAULT, METHODS, Method, check_method, method_of
from tritstream.golden.scales import CODED, DIRECT
from tritstream.scripts.console import console, print_json, progress, reports_errors, table
from tritstream.scripts.options import BaseModel, Exclude, Force, Json, Model, NoTokenizer, Output
from tritstream.scripts.weights.architecture import Found, architecture_of, warn_of_faults
from tritstream.scripts.weights.calibrate import TOKENS, moments_file
from tritstream.scripts.weights.checkpoints import check_no_tokenizer
from tritstream.scripts.weights.depths import depths_by_budget
from tritstream.scripts.weights.glob_options import numbers_by_glob
from tritstream.scripts.weights.kept import kept_parts, show_kept, warn_of_share

__all__ = ["pack", "quantize"]

_DEPTH = 3


@reports_errors
def quantize(
    model: Model,
    output: Output,
    depth: Annotated[int | None, typer.Option(
        "--depth", "-d", help="Trits per weight, 1..4.", show_default=str(_DEPTH))] = None,
    depth_for: Annotated[list[str] | None, typer.Option(
        metavar="GLOB=D", help="Depth of the matrices whose names match GLOB, such as "
        "'*.down_proj=4'. May be repeated; the last match counts.")] = None,
    budget: Annotated[float | None, typer.Option(
        help="Average number of stored bits per weight. Replaces --depth: each matrix gets the "
             "depth at which its bits reduce the error most.")] = None,
    method: Annotated[str, typer.Option(help=f"Quantizer: {', '.join(METHODS)}.")] = DEFAULT,
    group: Annotated[int, typer.Option(
        "--group", metavar="G", help="Consecutive weights of a row that share a scale: a multiple "
        "of 16. A shorter row is one group.")] = GROUPING.group,
    scales: Annotated[str, typer.Option(
        help=f"Kind of scales: {CODED}, one of 27 per matrix, or {DIRECT}, a float16 per group."
        )] = GROUPING.scales,
    calibration: Annotated[list[str] | None, typer.Option(
        metavar="TEXT", help="Calibrate the method search: with `self`, text that the model "
        "writes; with a text of the kind that the model will read; with `random`, random tokens "
        "only; or with a calibration file of `tritstream calibrate`. May be repeated: each text "
        "gets an equal share of the tokens, and so do random tokens.")] = None,
    calibration_tokens: Annotated[int, typer.Option(
        help="Number of tokens to read from the calibration texts.")] = TOKENS,
    include: Annotated[list[str] | None, typer.Option(
        metavar="NAME", help="Quantize this matrix, too: lm_head or embed_tokens. May be "
                             "repeated.")] = None,
    exclude: Exclude = None,
    dtype: Annotated[str, typer.Option(
        help=f"Dtype of the unquantized tensors: {AUTO}, {', '.join(DTYPE_NAMES)}. auto: matrices "
             "get 16 bits where that is exact, or near enough for dequantized GGUF; all other "
             "tensors keep their dtype.")] = AUTO,
    no_tokenizer: NoTokenizer = False,
    base_model: BaseModel = None,
    engine: Annotated[str | None, typer.Option(
        help="Engine of the inner loops: numpy or numba. numba writes the same bytes several times "
             "as fast.", show_default="numba if it is installed")] = None,
    cluster: Annotated[str | None, typer.Option(
        metavar="ADDRESS", help="Distribute the tensors over the Dask cluster with this scheduler, "
        "such as tcp://HOST:8786. Its workers must see the same files.")] = None,
    force: Force = False,
    as_json: Json = False,
):
    """Quantize and pack every linear matrix of a checkpoint. Resumes after an interruption."""
    # All options are checked before a calibration, which may take long.
    default, overrides = _depths(depth, depth_for or [], budget)
    check_dtype(dtype)
    check_no_tokenizer(model, no_tokenizer)
    grouping = Grouping(group, scales)
    check_method(method, bool(calibration), grouping)
    found, selection = _select(model, not no_tokenizer, include or [], exclude or [])
    moments = moments_file(model, calibration, calibration_tokens) if calibration else None
    chosen = method_of(method, engine, moments, grouping)
    if budget is not None:
        if moments and chosen.moments is None:
            raise ValueError(f"{moments}: has matrices of one depth; give it without --budget")
        overrides = depths_by_budget(model, chosen, budget, selection)
        default = Counter(overrides.values()).most_common(1)[0][0]
    start = perf_counter()
    report = pack(model, output, default, force, method=chosen, cluster=cluster,
                  overrides=overrides, selection=selection, dtype=dtype,
                  tokenizer=not no_tokenizer, base_model=base_model)
    seconds = perf_counter() - start
    warn_of_share(report)
    show = _print_json if as_json else _show
    show(output, report, found, grouping, seconds)


def _depths(
    depth: int | None, rules: Sequence[str], budget: float | None,
) -> tuple[int, dict[str, int]]:
    """Return the default depth, and the depths by glob, that the options ask for."""
    if budget is not None and (depth is not None or rules):
        raise ValueError("--budget chooses the depths: give it without --depth and --depth-for")
    default = _DEPTH if depth is None else depth
    overrides = numbers_by_glob("--depth-for", "D", rules)
    for asked in (default, *overrides.values()):
        half_range(asked)
    return default, overrides


def _select(
    model: Path, tokenizer: bool, include: Sequence[str], exclude: Sequence[str],
) -> tuple[Found, Selection]:
    """Return the architecture, and the selection of matrices; raise if a name matches nothing."""
    source = open_source(model, tokenizer=tokenizer)
    found = architecture_of(source)
    warn_of_faults(model, found)
    selection = Selection(include, exclude, architecture=found.architecture)
    source.choose(selection)
    return found, selection


def pack(model: Path, output: Path, depth: int, force: bool = False, *,
         method: Method | None = None, cluster: str | None = None,
         overrides: Mapping[str, int] | None = None, selection: Selection = BY_NAME,
         dtype: str | None = None, tokenizer: bool = True,
         base_model: str | None = None) -> PackReport:
    """Pack a checkpoint with a progress bar, and print warnings to standard error."""
    choice = open_source(model, tokenizer=tokenizer).choose(selection)
    with (on_cluster(cluster) if cluster else nullcontext(in_flight) as run,
          progress("quantizing", len(choice.matrices) + len(choice.reasons)) as advance):
        report = pack_checkpoint(model, output, depth, force=force, method=method, run=run,
                                 overrides=overrides, include=selection.include,
                                 exclude=selection.exclude, architecture=selection.architecture,
                                 dtype=dtype, tokenizer=tokenizer, base_model=base_model,
                                 progress=lambda tensor: advance(1, tensor.name))
    for warning in report.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    return report


def _print_json(
    output: Path, report: PackReport, found: Found, grouping: Grouping, seconds: float,
) -> None:
    architecture = found.architecture
    print_json({"output": str(output), "depth": report.depth, "group": grouping.group,
                "scales": grouping.scales, "weights": report.weights,
                "size": report.size, "stored_bits": report.stored_bits,
                "packed_share": report.packed_share, "error": report.error, "seconds": seconds,
                "model": architecture.name if architecture else None,
                "missing": list(architecture.missing) if architecture else [],
                "kept": [asdict(part) for part in kept_parts(report)],
                "tensors": [tensor.record() for tensor in report.tensors]})


def _show(
    output: Path, report: PackReport, found: Found, grouping: Grouping, seconds: float,
) -> None:
    table("", ["matrix", "shape", "d", "stored b/w", "info b/w", "squared error", "of a group",
               "zero trits", "scales"], [_row(matrix) for matrix in report.matrices])
    print(f"\n{len(report.matrices)} matrices, {report.weights} weights at "
          f"{report.stored_bits:.2f} bits with padding and tables; "
          f"{len(report.kept) - len(report.roundings)} tensors kept as they were")
    print(f"groups of {grouping.group} weights with {grouping.scales} scales")
    print("squared error: of all weights over their squares; of a group: the median over 16 "
          "consecutive weights each")
    show_kept(report)
    for rounding in report.roundings:
        print(f"converted: {rounding.line()}")
    print(f"matrices were chosen as {found.architecture.name} has them" if found.architecture else
          f"matrices were chosen by their names: {found.reason}")
    print(f"squared error of all {report.error:.2e}; {report.size / 1e6:.3f} MB written in "
          f"{seconds:.1f} s")
    print(f"packed checkpoint: {output}")


def _row(matrix: TensorReport) -> list[str]:
    return [
        matrix.name, "x".join(map(str, matrix.shape)), str(matrix.depth),
        f"{matrix.stored_bits:.2f}", f"{matrix.information_bits:.2f}", f"{matrix.error:.2e}",
        f"{matrix.group_error:.2e}", f"{matrix.zero_share:.3f}",
        f"{matrix.scale_min:.2e}..{matrix.scale_max:.2e}",
    ]
