"""The commands convert, inspect, verify and export."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.checkpoints.casting import AUTO, DTYPE_NAMES, Rounding, cast, check_dtype
from tritstream.golden.checkpoints.convert import convert as convert_source
from tritstream.golden.checkpoints.hub import local_model
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.jobs.directory_job import JOURNAL, check_out
from tritstream.golden.matrix import DirectMatrix, TritMatrix
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.export import export as export_checkpoint
from tritstream.golden.packed.layout import CODED
from tritstream.golden.packed.reader import MatrixInfo, PackedCheckpoint
from tritstream.golden.packed.report import zero_share
from tritstream.golden.packed.verify import Finding
from tritstream.golden.packed.verify import verify as verify_checkpoint
from tritstream.scripts.console import Failure, console, print_json, progress, reports_errors, table
from tritstream.scripts.options import Force, Json, NoTokenizer, Output, Packed
from tritstream.scripts.weights.architecture import packed_architecture

__all__ = ["check_no_tokenizer", "convert", "export", "inspect", "show_roundings", "verify",
           "write_source"]

#: Names of dtypes, for help texts.
_NAMES = f"{AUTO}, {', '.join(DTYPE_NAMES)}"


@reports_errors
def convert(
    model: Annotated[Path, typer.Argument(
        help="GGUF file of the architecture llama or qwen2 to convert.")],
    output: Output,
    dtype: Annotated[str, typer.Option(
        help=f"Dtype of the weights: {_NAMES}. auto: a matrix gets 16 bits if the error of each "
             "value is at most 2^-11 of the largest value, else float32, which is exact.")] = AUTO,
    no_tokenizer: NoTokenizer = False,
    force: Force = False,
):
    """Convert a GGUF file to a Hugging Face directory with unquantized weights."""
    if local_model(model).is_dir():
        raise Failure(f"{model}: is a directory already; give a GGUF file")
    write_source(open_source(model, tokenizer=not no_tokenizer), output, force, dtype)
    print(f"Hugging Face checkpoint: {output}")


def write_source(
    source: Source, output: Path, force: bool = False, dtype: str | None = None,
) -> None:
    """Write a source as a Hugging Face directory, converted to ``dtype`` if one is given."""
    check_dtype(dtype or AUTO)
    if not (output / JOURNAL).exists():
        # Before weights are read. If a journal exists, the job itself checks the directory.
        check_out(output, force)
    if dtype:
        with progress("choosing dtypes", len(source.tensors)) as advance:
            source = cast(source, dtype, lambda name: advance(1, name))
    with progress("writing", len(source.tensors)) as advance:
        lost = convert_source(source, output, force=force, progress=lambda name: advance(1, name))
    show_roundings(lost)


def show_roundings(lost: Mapping[str, Sequence[Rounding]]) -> None:
    """Print the conversions of dtypes per file, with the largest error of each conversion."""
    for file, roundings in lost.items():
        for pair in sorted({(one.before, one.after) for one in roundings}):
            same = [one for one in roundings if (one.before, one.after) == pair]
            worst = max(same, key=lambda one: one.share)
            console.print(f"{file}: {len(same)} tensors converted, the worst {worst.line()}",
                          markup=False, soft_wrap=True)


def check_no_tokenizer(model: Path, asked: bool) -> None:
    """Raise :class:`ValueError` if --no-tokenizer is given for a directory."""
    if asked and local_model(model).is_dir():
        raise ValueError(f"{model}: is a directory, whose tokenizer is copied and not converted; "
                         "--no-tokenizer is for GGUF files")


@reports_errors
def inspect(packed: Packed, as_json: Json = False):
    """List the matrices of a packed checkpoint: shape, depth, bits per weight, scales, zeros.

    The column "on a device" shows whether the integer mantissas of a device are
    exactly the scales, or the largest relative error of a scale.
    """
    checkpoint = PackedCheckpoint(packed)
    records = []
    with progress("reading", len(checkpoint.matrices)) as advance:
        for name in checkpoint.matrices:
            records.append(_describe(checkpoint.matrices[name], checkpoint.matrix(name)))
            advance(1, name)
    kept = {name: list(tensor.shape) for name, tensor in checkpoint.kept.items()}
    if as_json:
        print_json({"config": checkpoint.config["quantization_config"], "matrices": records,
                    "kept": kept})
        return
    table(f"{packed}", ["matrix", "shape", "d", "group", "stored b/w", "info b/w", "scales",
                        "kind", "on a device", "zero trits", "form"],
          [_row(record) for record in records])
    print(f"\n{len(kept)} tensors kept as they were")


def _row(record: dict) -> list[str]:
    return [
        record["name"], "x".join(map(str, record["shape"])), str(record["depth"]),
        str(record["group"]), f"{record['stored_bits']:.2f}", f"{record['information_bits']:.2f}",
        f"{record['scale_min']:.2e}..{record['scale_max']:.2e}", record["scales"],
        f"off by {record['device_error']:.1e}" if record["inexact_groups"] else "exact",
        f"{record['zero_share']:.3f}", record["form"],
    ]


def _describe(info: MatrixInfo, matrix: TritMatrix | DirectMatrix) -> dict:
    used, exactness = matrix.scales.values(slice(None)), matrix.scales.exactness
    layout = info.layout
    return {
        "name": info.name, "shape": list(matrix.shape), "depth": matrix.depth,
        "group": matrix.group, "scales": layout.kind or CODED,
        "stored_bits": layout.weight_bits(matrix.shape, matrix.depth),
        "information_bits": layout.information_bits(matrix.shape, matrix.depth),
        "scale_min": float(used.min()), "scale_max": float(used.max()),
        "inexact_rows": exactness.rows, "inexact_groups": exactness.groups,
        "device_error": exactness.error,
        "zero_share": zero_share(matrix), "form": matrix.form.name,
    }


@reports_errors
def verify(
    packed: Packed,
    against: Annotated[Path | None, typer.Option(
        help="Compare with this source checkpoint. It is quantized again, or compared value by "
             "value if PACKED was imported.")] = None,
    calibration: Annotated[Path | None, typer.Option(
        help="Calibration file with which PACKED was quantized, if any.")] = None,
    as_json: Json = False,
):
    """Check a packed checkpoint: shapes, checksums, byte codes, padding, loading of the model."""
    checkpoint = PackedCheckpoint(packed)
    count = len(checkpoint.matrices) + len(checkpoint.kept)
    found = packed_architecture(checkpoint)
    with progress("verifying", count) as advance:
        findings = verify_checkpoint(packed, against, lambda name: advance(1, name),
                                     calibration=calibration, architecture=found.architecture)
    if found.is_fault:
        findings.append(Finding("config.json", found.reason))
    model = found.architecture.name if found.architecture else None
    if as_json:
        print_json({"packed": str(packed), "tensors": count, "model": model,
                    "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{finding.kind}: {finding.tensor}: {finding.message}")
    errors = [finding for finding in findings if finding.kind == "error"]
    if errors:
        raise Failure(f"{packed}: {len(errors)} errors, the first in {errors[0].tensor}: "
                      f"{errors[0].message}")
    if not as_json:
        warned = len({finding.tensor for finding in findings})
        print(f"{packed}: {count} tensors, "
              + (f"{warned} with a warning, no error" if warned else "all valid"))
        print(f"it can be loaded, as {model}" if model else
              f"whether it can be loaded was not checked: {found.reason}")


@reports_errors
def export(
    packed: Packed,
    output: Output,
    dtype: Annotated[str | None, typer.Option(
        help=f"Dtype of all tensors: {_NAMES}. auto: an unquantized matrix in float32 gets 16 "
             "bits if that is exact; nothing else changes.",
        show_default="float16 or the imported dtype for packed matrices, the stored dtype for "
                     "other tensors")] = None,
    force: Force = False,
):
    """Write a dequantized checkpoint that transformers loads without tritstream."""
    check_dtype(dtype or AUTO)
    checkpoint = PackedCheckpoint(packed)
    with progress("exporting", len(checkpoint.matrices) + len(checkpoint.kept)) as advance:
        lost = export_checkpoint(packed, output, force=force, dtype=dtype,
                                 progress=lambda name: advance(1, name))
    show_roundings(lost)
    print(f"dequantized checkpoint: {output}")
