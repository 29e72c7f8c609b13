"""Commands on checkpoints: quantize, inspect, verify, export."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from golden.checkpoint import PackedCheckpoint
from golden.export import export as export_checkpoint
from golden.fixed import information_bits, stored_bits
from golden.packer import PackReport, pack_checkpoint, plan
from golden.verify import verify as verify_checkpoint
from scripts.console import Failure, console, print_json, progress, reports_errors, table

__all__ = ["export", "inspect", "pack", "quantize", "verify"]

Packed = Annotated[Path, typer.Argument(help="Packed checkpoint.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory to write.")]
Force  = Annotated[bool, typer.Option(help="Replace what is there, and start anew.")]
Json   = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def pack(model: Path, output: Path, depth: int, force: bool = False) -> PackReport:
    """Pack a checkpoint with a progress bar; warnings go to standard error."""
    with progress("quantizing", plan(model, depth).matrices) as advance:
        report = pack_checkpoint(model, output, depth, force=force,
                                 progress=lambda matrix: advance(1, matrix.name))
    for matrix in report.matrices:
        for warning in matrix.warnings:
            console.print(f"warning: {matrix.name}: {warning}", markup=False, soft_wrap=True)
    return report


@reports_errors
def quantize(
    model: Annotated[Path, typer.Argument(help="Hugging Face directory: config and safetensors.")],
    output: Output,
    depth: Annotated[int, typer.Option("--depth", "-d", help="Trits a weight, 1..4.")] = 3,
    force: Force = False,
    as_json: Json = False,
):
    """Quantize every linear matrix of a checkpoint and pack it. Goes on where it was stopped."""
    report = pack(model, output, depth, force)
    if as_json:
        print_json({"output": str(output), **asdict(report)})
        return
    _show_packed(report)
    print(f"\npacked checkpoint: {output}")


def _show_packed(report):
    rows = [[
        m.name, f"{m.shape[0]}x{m.shape[1]}", str(m.depth), f"{m.stored_bits:.2f}",
        f"{m.information_bits:.2f}", f"{m.error:.2e}", f"{m.zero_share:.3f}",
        f"{m.scale_min:.2e}..{m.scale_max:.2e}",
    ] for m in report.matrices]
    table("", ["matrix", "shape", "d", "stored b/w", "info b/w", "squared error", "zero trits",
               "scales"], rows)


@reports_errors
def inspect(packed: Packed, as_json: Json = False):
    """Show the matrices of a packed checkpoint: shape, depth, bits, scales, zero trits."""
    checkpoint = PackedCheckpoint(packed)
    records = []
    with progress("reading", len(checkpoint.matrices)) as advance:
        for name, info in checkpoint.matrices.items():
            records.append({"name": name, "shape": list(info.shape), "depth": info.depth,
                            "stored_bits": stored_bits(info.depth),
                            "information_bits": information_bits(info.depth),
                            **_statistics(checkpoint.matrix(name))})
            advance(1, name)
    kept = {name: list(info.shape) for name, info in checkpoint.kept.items()}
    if as_json:
        print_json({"codec": checkpoint.codec, "matrices": records, "kept": kept})
        return
    table(f"{packed}: {checkpoint.codec}", [
        "matrix", "shape", "d", "stored b/w", "info b/w", "scales", "zero trits"], [[
            r["name"], "x".join(map(str, r["shape"])), str(r["depth"]), f"{r['stored_bits']:.2f}",
            f"{r['information_bits']:.2f}", f"{r['scale_min']:.2e}..{r['scale_max']:.2e}",
            f"{r['zero_share']:.3f}"] for r in records])
    print(f"\nkept as they were: {len(kept)} tensors")


def _statistics(matrix):
    used = matrix.table[np.unique(matrix.codes)]
    return {"scale_min": float(used.min()), "scale_max": float(used.max()),
            "zero_share": _zero_share(matrix)}


@reports_errors
def verify(
    packed: Packed,
    against: Annotated[Path | None, typer.Option(
        help="Quantize this checkpoint again and compare.")] = None,
    as_json: Json = False,
):
    """Check shapes, checksums, byte codes and padding of a packed checkpoint."""
    checkpoint = PackedCheckpoint(packed)
    with progress("verifying", len(checkpoint.matrices)) as advance:
        findings = verify_checkpoint(packed, against, progress=lambda name: advance(1, name))
    errors = [finding for finding in findings if finding.kind == "error"]
    if as_json:
        print_json({"packed": str(packed), "findings": [asdict(f) for f in findings]})
    else:
        for finding in findings:
            print(f"{finding.kind}: {finding.tensor}: {finding.message}")
    if errors:
        raise Failure(f"{packed}: {len(errors)} errors, the first in {errors[0].tensor}")
    if not as_json:
        print(f"{packed}: {len(checkpoint.matrices)} matrices, {len(checkpoint.kept)} kept "
              "tensors, all sound")


@reports_errors
def export(packed: Packed, output: Output, force: Force = False):
    """Write the dequantized float16 checkpoint, which stock transformers loads."""
    with progress("exporting", len(PackedCheckpoint(packed).matrices)) as advance:
        export_checkpoint(packed, output, force=force, progress=lambda name: advance(1, name))
    print(f"float16 checkpoint: {output}")
