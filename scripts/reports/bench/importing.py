"""Command that measures the import of a checkpoint that is made file by file and consumed."""

import contextlib
import math
import time
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.checkpoints.sharding import SHARD_SIZE
from tritstream.golden.generated.made_files import MadeFiles
from tritstream.golden.generated.source import GeneratedSource
from tritstream.golden.model_sizes import QWEN25
from tritstream.golden.recover.import_checkpoint import import_checkpoint
from tritstream.scripts.console import progress, reports_errors, table
from tritstream.scripts.options import (
    MEGABYTE,
    Depth,
    Force,
    Json,
    Layers,
    ModelSize,
    Report,
    ShardSize,
    Shrink,
    Vocab,
)
from tritstream.scripts.reports.bench.measuring import circumstances, peak_bytes, report_to

__all__ = ["import_made"]

_PACKAGES = ("tritstream", "numpy", "numba")


class _Measured(MadeFiles):
    """Files that take CPU ``seconds`` to make."""

    def __init__(self, source: GeneratedSource, directory: Path):
        super().__init__(source, directory)
        self.seconds = 0.0

    def provide(self, file: str) -> None:
        """Write a file: :meth:`.MadeFiles.provide`."""
        start = time.process_time()
        super().provide(file)
        self.seconds += time.process_time() - start


@reports_errors
def import_made(
    size: ModelSize,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write.")],
    work: Annotated[Path, typer.Option(
        help="Directory for the file of weights that is imported.")] = Path("build/bench-import"),
    depth: Depth = 3,
    layers: Layers = None,
    vocab: Vocab = None,
    shrink: Shrink = 1,
    shard_size: ShardSize = SHARD_SIZE // MEGABYTE,
    force: Force = False,
    report: Report = None,
    as_json: Json = False,
):
    """Import a checkpoint of random trits in float16, whose files are made one by one and consumed.

    The disk holds the output and one file of weights. Resumes after an
    interruption; the figures are those of the last run.
    """
    source = _Measured(GeneratedSource(size, layers=layers, vocabulary=vocab, dtype="F16",
                                       depth=depth, shrink=shrink,
                                       shard_size=shard_size * MEGABYTE), work)
    start, cpu, disk = time.perf_counter(), time.process_time(), _Peak(work, output)
    with progress("importing", 3 * len(source.tensors)) as advance:
        def step(stage: str, name: str) -> None:
            disk.look()
            advance(stage != "hashing", f"{stage} {name}")

        found = import_checkpoint(source, output, force=force, consume=True, progress=step)
    with contextlib.suppress(OSError):
        work.rmdir()
    seconds = {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu,
               "making_cpu": source.seconds}
    weights = sum(math.prod(tensor.shape) for file in source.written
                  for name, tensor in source.shards[file].tensors.items()
                  if name.endswith("_proj.weight"))
    rate = weights / (seconds["cpu"] - source.seconds) if weights else None
    whole = sum(math.prod(shape) for shape in QWEN25[size].linear().values()) * QWEN25[size].layers
    report_to(circumstances(_PACKAGES) | {
        "size": size, "depth": depth, "files": len(source.shards), "tensors": len(source.tensors),
        "matrices": len(found.packed.matrices), "weights": found.packed.weights,
        "source_bytes": sum(tensor.size for tensor in source.tensors.values()),
        "output_bytes": found.packed.size, "run_files": len(source.written),
        "run_weights": weights, **seconds, "weights_per_cpu_second": rate,
        "peak_memory": peak_bytes(),
        "peak_disk": disk.bytes, "projected_weights": whole,
        "projected_cpu": whole / rate if rate else None,
    }, report, as_json, _show)


class _Peak:
    """Largest number of bytes that was seen on the disk in two directories."""

    def __init__(self, work: Path, output: Path):
        self._places = work, output.with_name(f"{output.name}.partial")
        self.bytes = 0

    def look(self) -> None:
        """Add up the blocks of the files that are there now."""
        files = [path for place in self._places if place.is_dir() for path in place.iterdir()]
        # A block of stat has 512 bytes.
        self.bytes = max(self.bytes, sum(512 * path.stat().st_blocks for path in files))


def _show(report: dict) -> None:
    table("", ["source", "files", "matrices", "M weights", "source GB", "output GB"], [[
        f"Qwen2.5-{report['size']}, d = {report['depth']}", str(report["files"]),
        str(report["matrices"]), f"{report['weights'] / 1e6:.1f}",
        f"{report['source_bytes'] / 1e9:.2f}", f"{report['output_bytes'] / 1e9:.2f}"]])
    table("\nthis run", ["files", "M weights", "wall s", "CPU s", "of which making", "peak MB",
                         "peak disk GB"], [[
        str(report["run_files"]), f"{report['run_weights'] / 1e6:.1f}", f"{report['wall']:.1f}",
        f"{report['cpu']:.1f}", f"{report['making_cpu']:.1f}", f"{report['peak_memory'] / 1e6:.0f}",
        f"{report['peak_disk'] / 1e9:.2f}"]])
    if rate := report["weights_per_cpu_second"]:
        print(f"\n{rate / 1e6:.1f} M weights per CPU second without making them; all "
              f"{report['projected_weights'] / 1e9:.1f} G weights of {report['size']} would take "
              f"{report['projected_cpu'] / 60:.1f} CPU minutes")
