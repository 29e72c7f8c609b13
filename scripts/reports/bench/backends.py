"""Command that measures a packed model on several backends: speed, CPU time and memory."""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
import typer

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.scripts.console import Failure, progress, reports_errors, table
from tritstream.scripts.options import Json, JsonFile, Packed, Repeat
from tritstream.scripts.reports.bench.measuring import circumstances, peak_bytes, report_to

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from torch import Tensor
    from transformers import GenerationMixin, PreTrainedModel

__all__ = ["backends", "check_tokens"]

_PACKAGES = ("tritstream", "numpy", "numba", "torch", "transformers")
_BACKENDS = ["reference", "golden", "cpu"]
#: The only backend of these whose tokens may differ from golden's.
_FLOATS = "reference"


@reports_errors
def backends(
    packed: Packed,
    names: Annotated[list[str], typer.Option(
        "--backend", help="Backend to measure: reference, golden, cpu or cuda. May be repeated. A "
                          "single backend is measured in this process.")] = _BACKENDS,
    prompt: Annotated[int, typer.Option(min=1, help="Random tokens of the prompt.")] = 64,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate.")] = 16,
    repeat: Repeat = 1,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Measure tokens per second and memory of a packed model by backend, one process each.

    A prompt of random tokens is processed twice, and the second pass counts. Then the most likely
    tokens are generated, one per pass. All backends but reference must generate the same tokens.
    """
    checkpoint = PackedCheckpoint(packed)
    if len(names) == 1:
        rows = [_measure(checkpoint, names[0], prompt, tokens)]
    else:
        rows = _in_processes(packed, names, prompt, tokens, repeat)
    report = circumstances(_PACKAGES) | {
        "model": str(packed), "prompt": prompt, "weights": _weights(checkpoint),
        "packed_bytes": _packed_bytes(checkpoint), "backends": rows}
    report_to(report, output, as_json, _show)
    check_tokens(rows)


def _in_processes(
    packed: Path, names: list[str], prompt: int, tokens: int, repeat: int,
) -> list[dict]:
    """Measure each backend in a process of its own; of several runs, the fastest counts."""
    runs: dict[str, list[dict]] = {name: [] for name in names}
    with progress("measuring", repeat * len(runs)) as advance:
        for _ in range(repeat):
            for name in runs:
                runs[name].append(_run(packed, name, prompt, tokens))
                advance(1, name)
    return [max(found, key=lambda row: row["tokens_per_second"]) for found in runs.values()]


def _run(packed: Path, name: str, prompt: int, tokens: int) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "tritstream", "dev", "bench", "backends", packed, "--backend", name,
         "--prompt", str(prompt), "--tokens", str(tokens), "--json"],
        capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{name}: {done.stderr.strip().rpartition('error: ')[2]}")
    return json.loads(done.stdout)["backends"][0]


def _measure(checkpoint: PackedCheckpoint, name: str, prompt: int, tokens: int) -> dict:
    """Measure a backend in this process."""
    import torch

    from tritstream.host.model.load import load_model

    start = time.perf_counter()
    model = load_model(checkpoint.path, backend=name)
    loaded = time.perf_counter() - start
    numbers = np.random.default_rng(0).integers(model.config.vocab_size, size=(1, prompt))
    passes, found = _timed_passes(model, torch.from_numpy(numbers), tokens + 1)
    (wall, cpu), *others = passes
    return {"backend": name, "load_seconds": loaded, "prompt_tokens_per_second": prompt / wall,
            "prompt_tokens_per_cpu_second": prompt / cpu,
            "tokens_per_second": 1 / statistics.median(wall for wall, _ in others),
            "tokens_per_cpu_second": 1 / statistics.median(cpu for _, cpu in others),
            "threads": torch.get_num_threads(), "peak_bytes": peak_bytes(),
            "resident_bytes": _resident(), "tokens": found}


def _resident() -> int:
    """Return the bytes of this process in memory now, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _timed_passes(
    model: "PreTrainedModel", ids: "Tensor", count: int,
) -> tuple[list[tuple[float, float]], list[int]]:
    """Return the wall and CPU seconds of the passes that generate ``count`` tokens, and the tokens.
    """
    import torch

    passes: list[tuple[float, float]] = []
    began = [0.0, 0.0]

    def start(*_: object) -> None:
        began[:] = time.perf_counter(), time.process_time()

    def end(*_: object) -> None:
        passes.append((time.perf_counter() - began[0], time.process_time() - began[1]))

    with torch.inference_mode():
        model(ids)                              # compiles, and fills caches
    model.register_forward_pre_hook(start)
    model.register_forward_hook(end)
    # All classes that load_model() accepts can generate.
    found = cast("GenerationMixin", model).generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count,
        min_new_tokens=count)
    return passes, cast("Tensor", found)[0, ids.shape[1]:].tolist()


def check_tokens(rows: list[dict]) -> None:
    """Raise :class:`Failure` if two backends that compute the same integers chose other tokens."""
    first, *others = [row for row in rows if row["backend"] != _FLOATS] or rows[:1]
    for row in others:
        if row["tokens"] != first["tokens"]:
            raise Failure(f"{row['backend']} generates other tokens than {first['backend']}")


def _weights(checkpoint: PackedCheckpoint) -> int:
    return sum(rows * columns for rows, columns in (
        info.shape for info in checkpoint.matrices.values()))


def _packed_bytes(checkpoint: PackedCheckpoint) -> int:
    return sum(tensor.size for name in checkpoint.matrices
               for tensor in checkpoint.tensors_of(name))


def _show(report: dict) -> None:
    print(f"{report['model']}: {report['weights'] / 1e6:.1f} M weights packed in "
          f"{report['packed_bytes'] / 1e6:.1f} MB; a prompt of {report['prompt']} tokens, then one "
          "token at a time")
    table("", ["backend", "tokens/s", "tokens/CPU s", "prompt tokens/s", "prompt tokens/CPU s",
               "resident MB", "peak MB", "load s"],
          [[row["backend"], f"{row['tokens_per_second']:.2f}",
            f"{row['tokens_per_cpu_second']:.2f}", f"{row['prompt_tokens_per_second']:.1f}",
            f"{row['prompt_tokens_per_cpu_second']:.1f}", f"{row['resident_bytes'] / 1e6:.0f}",
            f"{row['peak_bytes'] / 1e6:.0f}", f"{row['load_seconds']:.1f}"]
           for row in report["backends"]])
