"""The command import, which packs a checkpoint that was published with dequantized weights."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tritstream.golden.checkpoints.choice import Selection
from tritstream.golden.gguf.i2s_order import I2S_ORDERS
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.report import TensorReport
from tritstream.golden.recover import Recovery, Unfit
from tritstream.golden.recover.import_checkpoint import (
    ImportReport,
    import_checkpoint,
    open_unfinished,
    probe_checkpoint,
)
from tritstream.golden.recover.survey import Stated, Survey
from tritstream.scripts.console import Failure, console, print_json, progress, reports_errors, table
from tritstream.scripts.options import BaseModel, Exclude, Force, I2sOrder, Json
from tritstream.scripts.weights.architecture import architecture_of, warn_of_faults
from tritstream.scripts.weights.kept import name_patterns, show_kept, warn_of_share

__all__ = ["import_model"]


@reports_errors
def import_model(
    model: Annotated[Path, typer.Argument(
        help="Checkpoint of dequantized weights: Hugging Face directory with safetensors, or name "
             "of a model on the Hub such as Entrit/Qwen2.5-0.5B-trit-uniform-d3.")],
    output: Annotated[Path | None, typer.Option("--output", "-o",
                                                help="Directory to write.")] = None,
    depth: Annotated[int | None, typer.Option(
        "--depth", "-d", help="Trits per weight, 1..4.",
        show_default="the smallest that reproduces each matrix")] = None,
    keep_going: Annotated[bool, typer.Option(
        "--keep-going", help="Leave matrices that cannot be recovered unquantized.")] = False,
    consume: Annotated[bool, typer.Option(
        "--consume", help="Delete each file of weights of MODEL when its packed tensors were "
                          "compared with it and are on the disk. The first file is deleted after "
                          "all matrices have been recovered; run the same command again after an "
                          "interruption.")] = False,
    probe: Annotated[bool, typer.Option(
        "--probe", help="Report on each matrix, and write nothing.")] = False,
    exclude: Exclude = None,
    i2s_order: I2sOrder = I2S_ORDERS[0],
    base_model: BaseModel = None,
    force: Force = False,
    as_json: Json = False,
):
    """Recover the trits of a checkpoint with dequantized weights, and pack them without loss.

    The command reads the written files back and compares every value. It
    rejects a matrix that cannot be recovered exactly. Resumes after an
    interruption.
    """
    if probe and consume:
        raise ValueError("--probe writes nothing, so --consume has no meaning with it; leave one "
                         "out")
    if probe:
        _probe(model, depth, exclude or (), i2s_order, as_json)
    elif output is None:
        raise ValueError("give a directory to write with -o, or --probe")
    else:
        report = _import(model, output, depth, exclude or (), i2s_order,
                         {"keep_going": keep_going, "consume": consume, "force": force,
                          "base_model": base_model})
        _warn(report)
        print_json(_as_json(report)) if as_json else _print(report)


def _import(
    model: Path, output: Path, depth: int | None, exclude: Sequence[str], i2s_order: str,
    how: dict[str, Any],
) -> ImportReport:
    source = open_unfinished(model, output, i2s_order)
    found = architecture_of(source)
    warn_of_faults(model, found)
    selection = Selection(exclude=exclude, architecture=found.architecture)
    steps = (len(source.choose(selection).matrices) + len(source.fingerprint())
             + 2 * len(source.tensors))
    with progress("importing", steps) as advance:
        return import_checkpoint(
            source, output, depth, exclude=exclude, architecture=found.architecture,
            i2s_order=i2s_order, progress=lambda stage, name: advance(1, f"{stage} {name}"), **how)


def _warn(report: ImportReport) -> None:
    for line in [*report.packed.warnings, *(unfit.reason for unfit in _misfits(report).values())]:
        console.print(f"warning: {line}", markup=False, soft_wrap=True)
    warn_of_share(report.packed)


def _misfits(report: ImportReport) -> dict[str, Unfit]:
    """Return the matrices that were not recovered, by module name."""
    return {found.name: found.outcome for found in report.misfits
            if isinstance(found.outcome, Unfit)}


def _as_json(report: ImportReport) -> dict:
    surveys = {found.name: found for found in report.surveys}
    kept = {tensor.name for tensor in report.packed.kept}
    return {
        "output": str(report.packed.path), "depth": report.packed.depth,
        "weights": report.packed.weights, "stored_bits": report.packed.stored_bits,
        "negative_zeros": report.negative_zeros, "source_sha256": report.source_sha256,
        "consumed": list(report.consumed),
        "matrices": [tensor.record() | asdict(surveys[tensor.name])
                     for tensor in report.packed.matrices],
        "misfits": [asdict(found) for found in report.misfits],
        "kept": sorted(kept - {f"{found.name}.weight" for found in report.misfits}),
    }


def _print(report: ImportReport) -> None:
    packed, tensors = report.packed, {tensor.name: tensor for tensor in report.packed.matrices}
    rows = {found.name: _row(tensors[found.name], found, found.outcome) for found in report.surveys
            if isinstance(found.outcome, Recovery | Stated)}
    table("", ["matrix", "shape", "d", "form", "dtype", "magnitudes", "scales", "largest/least",
               "negative zeros", "stored b/w"], [rows[name] for name in tensors])
    misfits = {f"{name}.weight" for name in _misfits(report)}
    print(f"\n{len(packed.matrices)} matrices, {packed.weights} weights at "
          f"{packed.stored_bits:.2f} bits with padding and tables; read back, every value is that "
          f"of the source ({report.negative_zeros} negative zeros are zeros)")
    kept = [tensor.name for tensor in packed.kept if tensor.name not in misfits]
    print(f"{len(kept)} tensors kept as they were, as the codec has it: {_patterns(kept)}")
    show_kept(packed)
    if misfits:
        print(f"{len(misfits)} matrices kept because they do not fit: {', '.join(sorted(misfits))}")
    if report.consumed:
        print(f"{len(report.consumed)} files of weights deleted from the source")
    print(f"packed checkpoint: {packed.path}")


def _row(tensor: TensorReport, found: Survey, recovery: Recovery | Stated) -> list[str]:
    return [
        tensor.name, _shape(found), str(tensor.depth), recovery.form, found.dtype,
        str(recovery.distinct), str(recovery.scales), f"{tensor.table_ratio:.3g}",
        str(recovery.negative_zeros), f"{tensor.stored_bits:.2f}",
    ]


def _patterns(names: set[str] | list[str]) -> str:
    """Return the distinct names, with an asterisk for each layer number."""
    return ", ".join(name_patterns(names)) or "none"


def _survey(
    model: Path, depth: int | None, exclude: Sequence[str], i2s_order: str,
) -> list[tuple[Survey, list[tuple[float, float]]]]:
    """Return the survey of each matrix, and the ratios of its magnitudes if it does not fit."""
    found, source = [], open_source(model, i2s_order=i2s_order)
    selection = Selection(exclude=exclude, architecture=architecture_of(source).architecture)
    with progress("probing", len(source.choose(selection).matrices)) as advance:
        for survey, ratios in probe_checkpoint(model, depth, selection, i2s_order):
            found.append((survey, ratios))
            advance(1, survey.name)
    return found


def _probe(
    model: Path, depth: int | None, exclude: Sequence[str], i2s_order: str, as_json: bool,
) -> None:
    found = _survey(model, depth, exclude, i2s_order)
    if as_json:
        print_json({"source": str(model), "matrices": [
            asdict(survey) | {"fits": survey.fits, "ratios": ratios} for survey, ratios in found]})
    else:
        table("", ["matrix", "shape", "dtype", "magnitudes", "d", "form", "scales"],
              [_found(survey) for survey, _ in found])
        for survey, ratios in found:
            _print_misfit(survey, ratios)
    misfits = [survey for survey, _ in found if not survey.fits]
    if misfits:
        raise Failure(f"{model}: {len(misfits)} of {len(found)} matrices do not fit, the first "
                      f"{misfits[0].name}")


def _found(survey: Survey) -> list[str]:
    outcome, rest = survey.outcome, ["-"] * 3
    if isinstance(outcome, Recovery | Stated):
        rest = [str(outcome.depth), outcome.form, str(outcome.scales)]
    return [survey.name, _shape(survey), survey.dtype, str(outcome.distinct), *rest]


def _print_misfit(survey: Survey, ratios: list[tuple[float, float]]) -> None:
    if not isinstance(survey.outcome, Unfit):
        return
    print(f"\n{survey.outcome.reason}")
    for one in survey.outcome.attempts:
        print(f"  d = {one.depth}, {one.form}: " + (
            f"no scale makes {one.unfit} of {one.looked} groups" if one.unfit else
            f"{one.looked} groups need {one.least} scales at least"))
    shown = " ".join(f"{ratio:g} ({share:.1%})" for ratio, share in ratios)
    print(f"  ratios to the largest of a group: {shown or 'none'}")


def _shape(survey: Survey) -> str:
    return "x".join(map(str, survey.shape))
